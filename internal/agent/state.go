package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/config"
)

// State remembers what the agent has written, by hashes and without tokens, so that
// it removes that and nothing else. With a path it outlives the process.
type State struct {
	path string

	mu      sync.Mutex
	written map[string]written
	dirty   chan struct{}
}

// written is one file that the agent wrote.
type written struct {
	SHA256  string    `json:"sha256"`
	Expires time.Time `json:"expires_at"`
}

// OpenState reads what an earlier run has written to path; none if that is empty.
func OpenState(path string) (*State, error) {
	s := &State{path: path, written: map[string]written{}, dirty: make(chan struct{}, 1)}
	if path == "" {
		return s, nil
	}
	folder, err := openFolder(filepath.Dir(path), false)
	if err != nil {
		return nil, fmt.Errorf("state_file: %w", err)
	}
	defer folder.Close()
	text, _, err := readOwn(folder, filepath.Base(path))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		s.written, err = parseState(text)
	}
	if err != nil {
		return nil, fmt.Errorf("state_file: %s: %w", path, err)
	}
	return s, nil
}

func parseState(text []byte) (map[string]written, error) {
	if len(text) > maxContent {
		return nil, errors.New("is larger than any that the agent wrote")
	}
	var said struct {
		Written map[string]written `json:"written"`
	}
	if err := json.Unmarshal(text, &said); err != nil || said.Written == nil {
		return nil, errors.New("is not what the agent wrote: remove it, and remove by hand what no longer belongs there")
	}
	for path := range said.Written {
		if !filepath.IsAbs(path) {
			return nil, errors.New("names a path that is not absolute")
		}
	}
	return said.Written, nil
}

func (s *State) of(path string) (written, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, known := s.written[path]
	return was, known
}

func (s *State) wrote(path, sum string, expires time.Time) {
	s.put(path, written{sum, expires.UTC()})
}

func (s *State) put(path string, what written) {
	s.mu.Lock()
	s.written[path] = what
	s.mu.Unlock()
	s.changed()
}

func (s *State) forget(path string) {
	s.mu.Lock()
	delete(s.written, path)
	s.mu.Unlock()
	s.changed()
}

func (s *State) changed() {
	poke(s.dirty)
}

// others are the files that are none of these.
func (s *State) others(paths []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.written)), func(path string) bool { return slices.Contains(paths, path) })
}

// keep writes the state while it changes, at most once a second, and at the end.
func (s *State) keep(ctx context.Context, failed func(error)) {
	if s.path == "" {
		return
	}
	for {
		select {
		case <-ctx.Done():
			if err := s.Save(); err != nil {
				failed(err)
			}
			return
		case <-s.dirty:
		}
		if err := s.Save(); err != nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// Save writes the state now.
func (s *State) Save() error {
	if s.path == "" {
		return nil
	}
	s.mu.Lock()
	text, err := json.Marshal(struct {
		Written map[string]written `json:"written"`
	}{s.written})
	s.mu.Unlock()
	if err != nil {
		return err
	}
	folder, err := openFolder(filepath.Dir(s.path), false)
	if err != nil {
		return err
	}
	defer folder.Close()
	return replace(folder, filepath.Base(s.path), append(text, '\n'), config.Access{Perm: 0o600, UID: -1, GID: -1})
}
