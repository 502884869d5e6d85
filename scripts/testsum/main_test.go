package main

import (
	"strings"
	"testing"
)

func TestSummarize(t *testing.T) {
	rows := []struct {
		sentence   string
		events     string
		wantFailed bool
		want       []string
	}{
		{
			"passing tests and subtests count once each",
			`{"Action":"pass","Package":"p","Test":"TestA/one"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":1.5}`,
			false, []string{"ok    p  2 tests (1.5s)", "\n2 passed, 0 failed, 0 skipped\n"},
		},
		{
			"a failing test shows what it said",
			`{"Action":"output","Package":"p","Test":"TestA","Output":"got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`,
			true, []string{"FAIL  p TestA\n    got 1, want 2\n", "\n0 passed, 1 failed, 0 skipped\n"},
		},
		{
			"a package that does not build is a failure and shows the compiler's words",
			`{"ImportPath":"p [p.test]","Action":"build-output","Output":"x.go:1: undefined: y\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`,
			true, []string{"undefined: y", "\n0 passed, 1 failed, 0 skipped\n"},
		},
		{
			"a process that dies in a test is a failure and shows the panic",
			`{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"panic: boom\n"}
{"Action":"fail","Package":"p"}`,
			true, []string{"panic: boom", "\n1 passed, 1 failed, 0 skipped\n"},
		},
		{
			"a skip tells its reason",
			`{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"=== RUN   TestB\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:9: no PostgreSQL\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}`,
			false, []string{"skip  p TestB\n        b_test.go:9: no PostgreSQL\n", "\n1 passed, 0 failed, 1 skipped\n"},
		},
		{"a run without a test is not a success", ``, true, []string{"0 passed, 0 failed, 0 skipped\n"}},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			var out strings.Builder
			failed, err := summarize(strings.NewReader(row.events), &out)
			if err != nil || failed != row.wantFailed {
				t.Errorf("failed = %v (%v), want %v", failed, err, row.wantFailed)
			}
			for _, want := range row.want {
				if !strings.Contains("\n"+out.String(), want) {
					t.Errorf("output lacks %q:\n%s", want, out.String())
				}
			}
		})
	}
}
