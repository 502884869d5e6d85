package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
)

const manyPods = 100_000

// watched is a watch that knows many pods. A tenth of them are being deleted.
func watched() (*pods, []string) {
	p, now := newPods(false), time.Now()
	uids := make([]string, manyPods)
	for i := range uids {
		uids[i] = uuid.NewString()
		o := object{UID: uids[i]}
		if i%10 == 0 {
			o.Deletion = now.Add(time.Duration(i) * time.Second)
		}
		if _, err := p.saw(o, now); err != nil {
			panic(err)
		}
	}
	return p, uids
}

// TestWatchMemory: at most 0.5 KiB a pod at 100,000 pods.
func TestWatchMemory(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	p, _ := watched()
	each := float64(heap()-before) / manyPods
	runtime.KeepAlive(p)
	t.Logf("%.0f bytes a pod", each)
	if each > 512 {
		t.Errorf("%.0f bytes a pod", each)
	}
}

func BenchmarkPod(b *testing.B) {
	p, uids := watched()
	b.ResetTimer()
	for i := range b.N {
		p.state(uids[i%manyPods])
	}
}

// BenchmarkList reads a page of 500 pods with the metadata that real ones have.
func BenchmarkList(b *testing.B) {
	page := map[string]any{"kind": "PartialObjectMetadataList", "metadata": map[string]any{"resourceVersion": "1"}}
	var items []any
	for i := range pageSize {
		items = append(items, map[string]any{"metadata": map[string]any{
			"name": fmt.Sprint("web-7d4b9c6f5d-", i), "namespace": "shop", "uid": uuid.NewString(), "resourceVersion": "1234567", "creationTimestamp": "2026-01-02T03:04:05Z",
			"labels":      map[string]string{"app": "web", "pod-template-hash": "7d4b9c6f5d", "version": "v1"},
			"annotations": map[string]string{"prometheus.io/scrape": "true", "checksum/config": "0123456789abcdef0123456789abcdef"},
			"managedFields": []any{map[string]any{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
				"fieldsV1": map[string]any{"f:metadata": map[string]any{"f:labels": map[string]any{".": map[string]any{}, "f:app": map[string]any{}}}, "f:spec": map[string]any{"f:containers": map[string]any{`k:{"name":"web"}`: map[string]any{"f:image": map[string]any{}, "f:resources": map[string]any{}}}}}}},
		}})
	}
	page["items"] = items
	text, err := json.Marshal(page)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if _, _, err := parseItems(bytes.NewReader(text), eachPod(func(object) error { n++; return nil })); err != nil || n != pageSize {
			b.Fatal(n, err)
		}
	}
}
