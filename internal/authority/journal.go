package authority

import "time"

// Journal is what a store remembers of one node's journal, outside of the folder
// that the journal is in.
type Journal struct {
	Node      string
	Place     string // the machine and folder that the node writes it at
	Head      JournalHead
	RetiredAt time.Time // when an administrator said that the node will not come back; zero: it may
	Loss      JournalLoss
}

// JournalHead is a point of a journal: the hash of one record's line, which vouches
// for all lines before.
type JournalHead struct {
	Seq  uint64   // zero: the journal has no record yet
	Hash [32]byte // at Seq zero: what the first line will link to
	At   time.Time
}

// JournalLoss says which records were missing at a start that an operator allowed.
type JournalLoss struct {
	First, Last uint64
	At          time.Time // zero: nothing was lost
	By          string    // the node under whose name the journal continues
	Reason      string
}
