package rig

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// GitOps is the directory of argocd, source-controller and kustomize-controller, which
// scripts/gitops.sh builds. Where they have not been built the test is skipped, and with
// CI=true it fails.
func GitOps(t testing.TB) string {
	t.Helper()
	dir, err := programs("gitops.sh")
	switch {
	case errors.Is(err, errNotBuilt) && os.Getenv("CI") != "true":
		t.Skip("NOT TESTED: this machine has no Argo CD and Flux (make test or scripts/gitops.sh builds them)")
	case err != nil:
		t.Fatal(err)
	}
	return dir
}

// Program is a running program that is not part of the rig.
type Program struct {
	process *process
	t       testing.TB
}

// Run starts a program and ends it with the test. If the test fails, the end of what it
// wrote is shown.
func Run(t testing.TB, name string, cmd *exec.Cmd) *Program {
	t.Helper()
	p, err := startProcess(filepath.Join(t.TempDir(), name+".log"), cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", name, tail(p.log, 0))
		}
	})
	return &Program{p, t}
}

// Wait returns when ready does, and fails the test when the program ends before.
func (p *Program) Wait(what string, ready func() bool) {
	p.t.Helper()
	if err := p.process.wait(what, ready); err != nil {
		p.t.Fatal(err)
	}
}

// WaitFor returns when the URL answers 200.
func (p *Program) WaitFor(url string) {
	p.t.Helper()
	p.Wait(url+" answers", func() bool {
		answer, err := http.Get(url)
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// Log is all that it wrote.
func (p *Program) Log() string {
	text, err := os.ReadFile(p.process.log)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}
