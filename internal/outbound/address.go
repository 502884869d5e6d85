package outbound

import "net/netip"

// closed are the networks in which nobody on the Internet is to be found: IANA's special-purpose
// registries (RFC 6890), and the addresses behind which clouds answer with credentials.
var closed = prefixes(
	"0.0.0.0/8",        // this network
	"10.0.0.0/8",       // RFC 1918
	"100.64.0.0/10",    // carrier-grade NAT, RFC 6598; the metadata service of Alibaba
	"127.0.0.0/8",      // loopback
	"168.63.129.16/32", // the wire server of Azure
	"169.254.0.0/16",   // link-local; the metadata service of most clouds
	"172.16.0.0/12",    // RFC 1918
	"192.0.0.0/24",     // protocol assignments; the metadata service of Oracle
	"192.0.2.0/24",     // documentation
	"192.31.196.0/24",  // AS112
	"192.52.193.0/24",  // AMT
	"192.88.99.0/24",   // 6to4 relays
	"192.168.0.0/16",   // RFC 1918
	"192.175.48.0/24",  // AS112
	"198.18.0.0/15",    // benchmarks
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"224.0.0.0/3",      // multicast, reserved, broadcast

	"2001::/23",         // protocol assignments, Teredo and ORCHID among them
	"2001:db8::/32",     // documentation
	"2002::/16",         // 6to4: an IPv4 address in disguise
	"2620:4f:8000::/48", // AS112
	"3fff::/20",         // documentation
)

var (
	unicast = netip.MustParsePrefix("2000::/3")     // what of IPv6 is given out at all
	nat64   = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: ends in an IPv4 address
)

// public says whether an address can belong to somebody on the Internet. Every address that
// holds another one is judged by that one, or refused.
func public(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if nat64.Contains(a) { // the only way to IPv4 from a machine that has none
		bytes := a.As16()
		a = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	if a.Is6() && !unicast.Contains(a) {
		return false
	}
	for _, network := range closed {
		if network.Contains(a) {
			return false
		}
	}
	return a.IsValid()
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}
