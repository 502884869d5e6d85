package authority

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// What an administrator names is exactly what the links of its tokens name.
func TestWorkloadsThatAreNamedAtOnce(t *testing.T) {
	all := []string{
		"cluster:hub:ns:shop:sa:web", "cluster:hub:ns:shop:sa:api", "cluster:hub:ns:shop-b:sa:web", "cluster:hub-b:ns:shop:sa:web",
		"issuer:github:repo:acme/app", "issuer:github:repo:acme/app2", "issuer:github-b:repo:acme/app",
	}
	cluster, _ := WorkloadsOfCluster("hub")
	issuer, _ := WorkloadsOfIssuer("github")
	parsed := func(s string) Workloads {
		w, p := ParseWorkloads(s)
		if p != nil {
			t.Fatalf("%s: %v", s, p)
		}
		return w
	}
	for _, row := range []struct {
		name string
		w    Workloads
		want []int
	}{
		{"a cluster", cluster, []int{0, 1, 2}},
		{"an issuer", issuer, []int{4, 5}},
		{"a namespace", parsed("cluster:hub:ns:shop"), []int{0, 1}},
		{"a service account", parsed("cluster:hub:ns:shop:sa:web"), []int{0}},
		{"a CI job's subject", parsed("issuer:github:repo:acme/app"), []int{4}},
	} {
		var listed, ended []int
		for i, id := range all {
			if f := row.w.Grants; strings.HasPrefix(id, f.SubjectPrefix) && (f.SubjectID == "" || f.SubjectID == id) {
				listed = append(listed, i)
			}
			born := time.Unix(1, 0)
			if slices.Contains(Subject{ID: id, Kind: SubjectWorkload}.Epochs(born), Link{row.w.Epoch, row.w.Key, born}) {
				ended = append(ended, i)
			}
		}
		if !slices.Equal(listed, row.want) || !slices.Equal(ended, row.want) {
			t.Errorf("%s: %v are listed and %v end, want %v", row.name, listed, ended, row.want)
		}
	}
	for _, bad := range []string{
		"", "hub", "cluster:", "cluster:hub", "cluster:hub:ns:", "cluster:hub:ns:shop:", "cluster:hub:ns:shop:sa:", "cluster:hub:ns:shop:sa:a b", "cluster:Hub:ns:shop",
		"cluster:hub:ns:shop:sa:web:x", "issuer:github", "issuer:github:", "issuer::x", "issuer:github:a\x1bb", "user:ada",
	} {
		if w, p := ParseWorkloads(bad); p == nil {
			t.Errorf("%q is %+v", bad, w)
		}
	}
	if _, p := WorkloadsOfCluster("hub:ns"); p == nil {
		t.Error("a cluster with a colon")
	}
}
