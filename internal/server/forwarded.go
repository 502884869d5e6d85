package server

import (
	"net/netip"
	"strings"
)

// parseHop reads one entry of X-Forwarded-For: an address, alone or with a port,
// which some proxies add. An IPv6 address with a port is in brackets.
func parseHop(entry string) (netip.Addr, bool) {
	entry = strings.TrimSpace(entry)
	addr, err := netip.ParseAddr(entry)
	if err != nil {
		if withPort, portErr := netip.ParseAddrPort(entry); portErr == nil {
			addr, err = withPort.Addr(), nil
		} else if inner, ok := strings.CutPrefix(entry, "["); ok && strings.HasSuffix(inner, "]") {
			addr, err = netip.ParseAddr(strings.TrimSuffix(inner, "]"))
			if err == nil && !addr.Is6() {
				return netip.Addr{}, false
			}
		}
	}
	if err != nil || addr.Zone() != "" { // a zone may be any text
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}
