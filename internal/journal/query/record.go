package query

import (
	"encoding/json"
	"fmt"

	"github.com/signalbox-sts/signalbox/admin"
)

// Record is one line, decoded. Its strings hold what the caller sent: whoever
// prints them to a terminal prints Raw instead, or escapes them again.
type Record struct {
	admin.Record
	Raw []byte `json:"-"` // the line without its newline: printable ASCII
}

// decode reads a line, its newline included, and keeps it.
func decode(node string, line []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("not a line of a journal: %w", err)
	}
	r.Node = node
	r.Raw = line[:len(line)-1]
	return r, nil
}
