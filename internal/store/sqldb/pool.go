package sqldb

import "time"

// Pool says how busy the connections to the database are.
type Pool struct {
	Max, InUse, Idle int
	Waits            int64 // how often somebody had to wait for one
	Waited           time.Duration
}

// Pool looks at the connections now.
func (db *DB) Pool() Pool { return db.engine.connections() }

func (s *sqlite) connections() Pool {
	read, write := s.readDB.Stats(), s.writeDB.Stats()
	return Pool{
		Max: read.MaxOpenConnections + write.MaxOpenConnections, InUse: read.InUse + write.InUse, Idle: read.Idle + write.Idle,
		Waits: read.WaitCount + write.WaitCount, Waited: read.WaitDuration + write.WaitDuration,
	}
}

func (p *postgres) connections() Pool {
	s := p.pool.Stat()
	return Pool{
		Max: int(s.MaxConns()), InUse: int(s.AcquiredConns()), Idle: int(s.IdleConns()),
		Waits: s.EmptyAcquireCount(), Waited: s.EmptyAcquireWaitTime(),
	}
}
