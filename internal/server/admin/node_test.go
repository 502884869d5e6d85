package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
)

// gone is a node whose journal the database remembers.
func (s *service) gone(node string) string {
	s.Helper()
	if _, err := s.DB.StartJournal(s.Context(), node, "host:/"+node, authority.JournalHead{}); err != nil {
		s.Fatal(err)
	}
	return node
}

func TestANodeThatWillNotComeBackIsRetired(t *testing.T) {
	s := newService(t)
	s.gone("n2")
	head := authority.JournalHead{Seq: 7, Hash: [32]byte{7}, At: s.Now()}
	if err := s.DB.SaveJournalHead(t.Context(), "n2", authority.JournalHead{}, head); err != nil {
		t.Fatal(err)
	}
	s.call(s.admin(), "POST", "/journal/nodes/"+s.Parts.Name+"/retire", nil).wants(http.StatusConflict, "cannot retire itself")
	s.call(s.admin(), "POST", "/journal/nodes/n3/retire", nil).wants(http.StatusNotFound, "n3")
	before := len(s.events())
	s.call(s.admin(), "POST", "/journal/nodes/n2/retire", nil).wants(http.StatusOK, `"seq":7`, `"retired_at"`)
	recorded := s.events()[before:]
	if len(recorded) != 1 || recorded[0].Type != authority.EventNodeRetired || recorded[0].Target != "n2" || recorded[0].Actor != "root" {
		t.Errorf("%+v", recorded)
	}
	known, err := s.DB.Journals(t.Context())
	if err != nil || len(known) != 2 {
		t.Fatal(known, err)
	}
	for _, j := range known {
		if j.RetiredAt.IsZero() == (j.Node == "n2") || j.Node == "n2" && !j.RetiredAt.Equal(s.Now()) {
			t.Errorf("%+v", j)
		}
	}
}

func TestNodesAreListedByPages(t *testing.T) {
	s := newService(t)
	for i := range 5 {
		s.gone(fmt.Sprint("0n", i)) // before this node itself, whatever its name is
	}
	loss := authority.JournalLoss{First: 3, Last: 9, At: s.Now(), By: "0n2", Reason: "the disk died"}
	if err := s.DB.LoseJournal(t.Context(), "0n1", loss); err != nil {
		t.Fatal(err)
	}
	first := s.call(s.admin(), "GET", "/journal/nodes?limit=2", nil).wants(http.StatusOK, `"node":"0n0"`, `"node":"0n1"`, `"first":3`, `"last":9`, `"by":"0n2"`)
	var page admin.Page[admin.JournalNode]
	if err := json.Unmarshal(first.body, &page); err != nil || page.Next == "" {
		t.Fatal(err, page)
	}
	s.call(s.admin(), "GET", "/journal/nodes?after="+page.Next, nil).wants(http.StatusOK, `{"items":[{"node":"0n2"`, `"node":"0n4"`)
}
