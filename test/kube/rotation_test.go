package kube

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// A kube-apiserver looks for an unknown key only when its copy of the key set has 30 s or less to live, of the 60 s
// that max-age gives it. So a key signs two minutes after it was published, and the second of two rotations in a row
// is refused for that long. The first one need not wait, since no copy was ever without its key. Three rotations
// are therefore four minutes, which nothing can make shorter: max-age is no setting, and the API server has a clock
// of its own. scripts/test.sh runs this test beside all others, since nearly all of it is waiting.
func TestScenario8_KeysRotateThreeTimesAndNobodyIsRefused(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const (
		namespace = "scenario-8"
		apart     = time.Second / 20
		// A token is used again when the key that signed it has been retired: its life is 5 minutes.
		again = 3 * time.Minute
	)
	s := startService(t, operator+"clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: guest-8a}\n  - {name: guest-8b}\n"+deploys("hub", namespace, "guest-8a", "guest-8b"))
	answer, err := s.client.Get(s.Issuer + "/jwks")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if got := answer.Header.Get("Cache-Control"); got != "public, max-age=60" {
		t.Fatalf("the key set may be kept as %q says, and this test is about max-age=60", got)
	}
	var guests []guest
	for _, name := range []string{"guest-8a", "guest-8b"} {
		c := r.Add(t, name, rig.Options{})
		trustUs(t, s, c)
		guests = append(guests, newGuest(t, c))
	}
	pod := startPod(t, r.Hub, namespace)
	proof := r.Hub.Token(t, pod, s.Issuer, time.Hour)

	type held struct {
		token string
		guest guest
		at    time.Time
	}
	var (
		mu       sync.Mutex
		kept     []held
		kids     = map[string]int{}
		used     int
		refusals []string
	)
	use := func(h held) {
		err := h.guest.knows(h.token, "signalbox:cluster:hub:ns:"+namespace+":sa:orders")
		mu.Lock()
		defer mu.Unlock()
		used++
		if err != nil {
			header, _ := unverified(t, h.token)
			refusals = append(refusals, fmt.Sprintf("%s: a token of %v that is %s old: %v", h.guest.Name, header["kid"], time.Since(h.at).Round(time.Millisecond), err))
		}
	}
	// One pod of load: 20 new tokens a second, each used at once, and again when its key has been retired.
	over, ended := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(ended)
		var requests sync.WaitGroup
		defer requests.Wait()
		tick := time.NewTicker(apart)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			requests.Go(func() {
				g := guests[n%len(guests)]
				a := s.exchange(t, proof, g.Name)
				if a.Status != http.StatusOK {
					t.Errorf("exchange: %+v", a)
					return
				}
				h := held{a.AccessToken, g, time.Now()}
				header, _ := unverified(t, h.token)
				mu.Lock()
				kept = append(kept, h)
				kids[fmt.Sprint(header["kid"])]++
				var old []held
				for len(kept) > 0 && time.Since(kept[0].at) > again {
					old, kept = append(old, kept[0]), kept[1:]
				}
				mu.Unlock()
				use(h)
				for _, h := range old {
					use(h)
				}
			})
		}
	}()
	stop := sync.OnceFunc(func() { close(over); <-ended })
	defer stop()

	// Both API servers have a copy of the key set before the first rotation makes it old.
	until(t, time.Minute, "every API server knows us", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return used > 40
	})
	for n := range 3 {
		rotate(t, s)
		t.Logf("rotation %d after %s", n+1, time.Since(began).Round(time.Second))
	}
	// A key that an API server does not look for yet is refused at once, and for 30 s at most.
	time.Sleep(10 * time.Second)
	stop()
	lasted := time.Since(began)
	t.Logf("%d requests in %s, by tokens of the keys %v", used, lasted.Round(time.Second), kids)
	if want := int(lasted / apart * 9 / 10); used < want {
		t.Errorf("%d requests in %s are less than 20/s", used, lasted)
	}
	if len(kids) != 4 {
		t.Errorf("%d keys have signed, not the first one and one more for each rotation", len(kids))
	}
	if len(refusals) > 0 {
		t.Errorf("%d of %d requests failed:\n%s", len(refusals), used, strings.Join(refusals[:min(20, len(refusals))], "\n"))
	}
}

var possibleFrom = regexp.MustCompile(`rotation is possible from (\S+) on`)

// rotate rotates the key as soon as that is possible without --emergency.
func rotate(t *testing.T, s *service) {
	t.Helper()
	for {
		out, err := s.try(t, "key", "rotate", "ES256")
		if err == nil {
			return
		}
		m := possibleFrom.FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("key rotate: %v\n%s", err, out)
		}
		from, err := time.Parse(time.RFC3339, m[1])
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(max(time.Until(from), 100*time.Millisecond))
	}
}

// guest is a cluster that is asked over connections that stay open, as programs do; kubectl takes a second for each request.
type guest struct {
	*rig.Cluster
	client *http.Client
}

func newGuest(t *testing.T, c *rig.Cluster) guest {
	t.Helper()
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return guest{c, &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}}
}

// knows asks the cluster whose token that is.
func (g guest) knows(token, user string) error {
	const review = `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`
	request, err := http.NewRequest("POST", g.Server+"/apis/authentication.k8s.io/v1/selfsubjectreviews", bytes.NewReader([]byte(review)))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := g.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Message string
		Status  any // on a refusal, a word
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%d: %w", response.StatusCode, err)
	}
	if response.StatusCode != http.StatusCreated {
		return fmt.Errorf("%d: %s", response.StatusCode, answer.Message)
	}
	if status := fmt.Sprint(answer.Status); !strings.Contains(status, "username:"+user+"]") {
		return fmt.Errorf("it sees %s", status)
	}
	return nil
}
