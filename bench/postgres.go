//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/signalbox-sts/signalbox/bench/proc"
)

// postgres is a server of our own with its default settings, so durable
// (fsync and synchronous_commit on), in a directory that is removed after the run.
type postgres struct {
	proc *proc.Process
	port int
	bin  string
	attr *syscall.SysProcAttr
}

// newDatabase returns the storage.url of an empty database.
func (b *bench) newDatabase(ctx context.Context, name string) (string, error) {
	if b.pg == nil {
		pg, err := b.startPostgres(ctx)
		if err != nil {
			return "", fmt.Errorf("postgres: %w", err)
		}
		b.pg = pg
	}
	if err := b.pg.run(ctx, "createdb", "-h", "127.0.0.1", "-p", strconv.Itoa(b.pg.port), "-U", "bench", name); err != nil {
		return "", err
	}
	return fmt.Sprintf("postgres://bench@127.0.0.1:%d/%s?sslmode=disable", b.pg.port, name), nil
}

func databaseName(env string) string { return "bench_" + strings.ReplaceAll(env, "-", "_") }

// settle does what a server does in the minutes after a bulk load, so that
// this work is not measured: nobody stores a million grants in half a minute.
func (b *bench) settle(ctx context.Context, env string) error {
	return b.pg.run(ctx, "psql", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(b.pg.port), "-U", "bench", "-d", databaseName(env),
		"-c", "VACUUM ANALYZE", "-c", "CHECKPOINT")
}

func (b *bench) startPostgres(ctx context.Context) (*postgres, error) {
	bin, err := postgresBin(b.options.postgres)
	if err != nil {
		return nil, err
	}
	port, err := proc.FreePort()
	if err != nil {
		return nil, err
	}
	pg := &postgres{port: port, bin: bin}
	home := filepath.Join(b.dir, "postgres")
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		// PostgreSQL refuses to run as root.
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2, os.Chown(home, uid, gid), os.Chmod(b.dir, 0o711)); err != nil {
			return nil, err
		}
		pg.attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	data := filepath.Join(home, "data")
	if err := pg.run(ctx, "initdb", "-D", data, "-U", "bench", "--auth=trust", "--encoding=UTF8", "--locale=C"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", home, "-h", "127.0.0.1", "-p", strconv.Itoa(port))
	cmd.SysProcAttr, cmd.Dir = pg.attr, home
	pg.proc, err = proc.Start(ctx, cmd, pg.ready, filepath.Join(b.dir, "postgres.log"))
	return pg, err
}

func (pg *postgres) ready(ctx context.Context) bool {
	// A cheap check first: pg_isready is a process, and this runs often.
	c, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", pg.port), time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return pg.run(ctx, "pg_isready", "-h", "127.0.0.1", "-p", strconv.Itoa(pg.port)) == nil
}

func (pg *postgres) run(ctx context.Context, tool string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(pg.bin, tool), args...)
	if pg.attr != nil {
		attr := *pg.attr
		cmd.SysProcAttr = &attr
	}
	cmd.Dir = "/"
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", tool, err, text)
	}
	return nil
}

func postgresBin(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", errors.New("not installed (looked for /usr/lib/postgresql/*/bin; -postgres names another place)")
	}
	sort.Slice(found, func(i, j int) bool { return major(found[i]) > major(found[j]) })
	return found[0], nil
}

func major(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}
