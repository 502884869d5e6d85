package node

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/config"
)

func TestWhoMaySpeakPlainHTTP(t *testing.T) { // 102
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, row := range []struct {
		name, issuer, listen string
		may, mayNot          []string
	}{
		{"proxies before a listener that everybody reaches", "https://sts.example.com", ":8080", []string{"10.1.2.3"}, []string{"127.0.0.1", "::1", "192.0.2.1"}},
		{"a proxy on this machine", "https://sts.example.com", "127.0.0.1:8080", []string{"10.1.2.3", "127.0.0.1"}, []string{"192.0.2.1"}},
		{"no TLS at all, for this machine", "http://127.0.0.1:8080", "127.0.0.1:8080", []string{"127.0.0.1", "127.0.0.2", "::1", "10.1.2.3"}, []string{"192.0.2.1"}},
		{"no TLS at all, and a listener that everybody reaches", "http://localhost:8080", ":8080", []string{"127.0.0.1", "::1", "10.1.2.3"}, []string{"192.0.2.1", "172.17.0.1"}},
	} {
		from := plainFrom(&config.Config{Issuer: row.issuer, Listen: config.Listen{Public: row.listen}, TLS: config.TLS{Mode: config.TLSOff, TrustedProxies: proxies}})
		contains := func(s string) bool {
			return slices.ContainsFunc(from, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(s)) })
		}
		for _, peer := range row.may {
			if !contains(peer) {
				t.Errorf("%s: %s is refused", row.name, peer)
			}
		}
		for _, peer := range row.mayNot {
			if contains(peer) {
				t.Errorf("%s: %s is served", row.name, peer)
			}
		}
	}
}
