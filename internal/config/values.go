package config

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/signalbox-sts/signalbox/internal/config/source"
)

// assign parses text, from the file, a variable or the table's default.
func assign(f field, to any, s string) *mistake {
	if strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) && !(f.lines && r == '\n') }) >= 0 {
		return &mistake{"has a line break or another control character", "remove it"}
	}
	switch to := to.(type) {
	case *string:
		if len(f.oneOf) > 0 && !slices.Contains(f.oneOf, s) {
			return notOneOf(f, s)
		}
		*to = s
	case *bool:
		if s != "true" && s != "false" {
			return &mistake{"expected true or false, found " + source.Quote(s), "write true or false"}
		}
		*to = s == "true"
	case **bool: // a rule that holds unless somebody lifts it
		*to = new(bool)
		return assign(f, *to, s)
	case *time.Duration:
		v, err := time.ParseDuration(s)
		if err != nil {
			return &mistake{"expected a duration, found " + source.Quote(s), durationAdvice(s)}
		}
		*to = v
	case *Secret:
		*to = Secret{s}
	case *StorageURL:
		u, err := ParseStorageURL(s)
		if err != nil {
			return &mistake{"the storage URL " + err.Error(), "write sqlite:/var/lib/signalbox/signalbox.db or postgres://user@host/database"}
		}
		*to = u
	case *Witness:
		w, err := ParseWitness(s)
		if err != nil {
			return &mistake{"the witness " + err.Error(), "write a file's name, or a URL like https://witness.example.com/heads/"}
		}
		*to = w
	case *[]byte: // client_secret_hash
		digits, ok := strings.CutPrefix(s, "sha256:")
		sum, err := hex.DecodeString(digits)
		if !ok || err != nil || len(sum) != 32 {
			return &mistake{"expected sha256: and 64 hexadecimal digits", "make it from the file that holds the secret: " + hashCommand}
		}
		*to = sum
	case *[]string, *[]netip.Prefix:
		empty(to)
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			if m := appendText(f, to, part); m != nil {
				return m
			}
		}
	default:
		panic(fmt.Sprintf("config: %s has a type that nobody reads: %T", f.key, to))
	}
	return nil
}

func empty(list any) {
	switch list := list.(type) {
	case *[]string:
		*list = nil
	case *[]netip.Prefix:
		*list = nil
	case *[]uint32:
		*list = nil
	}
}

// maxTexts keeps the search for duplicates short.
const maxTexts = 1000

func appendText(f field, to any, s string) *mistake {
	if strings.IndexFunc(s, unicode.IsControl) >= 0 {
		return &mistake{"has a line break or another control character", "remove it"}
	}
	switch to := to.(type) {
	case *[]string:
		if len(f.oneOf) > 0 && !slices.Contains(f.oneOf, s) {
			return notOneOf(f, s)
		}
		if len(*to) >= maxTexts {
			return &mistake{"has more than " + strconv.Itoa(maxTexts) + " members", "split it"}
		}
		if slices.Contains(*to, s) {
			return &mistake{source.Quote(s) + " is in the list twice", "keep one of the two"}
		}
		*to = append(*to, s)
	case *[]uint32:
		n, err := strconv.ParseUint(s, 10, 32)
		switch {
		case err != nil || n == 1<<32-1:
			return &mistake{"expected a number from 0, found " + source.Quote(s), "write it like " + f.example}
		case slices.Contains(*to, uint32(n)):
			return &mistake{s + " is in the list twice", "keep one of the two"}
		case len(*to) >= maxTexts:
			return &mistake{"has more than " + strconv.Itoa(maxTexts) + " members", "split it"}
		}
		*to = append(*to, uint32(n))
	case *[]netip.Prefix:
		p, err := netip.ParsePrefix(s)
		if a, aerr := netip.ParseAddr(s); err != nil && aerr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		switch {
		case err != nil:
			return &mistake{"expected a network, found " + source.Quote(s), "write it as CIDR, such as 10.0.0.0/8 or 192.0.2.7/32"}
		case p.Bits() == 0:
			return &mistake{s + " would trust the whole Internet", "name the proxy's own network"}
		case p != p.Masked():
			return &mistake{s + " has bits behind its mask", "write " + p.Masked().String()}
		}
		*to = append(*to, p)
	}
	return nil
}

func notOneOf(f field, s string) *mistake {
	return &mistake{source.Quote(s) + " is not accepted here", "write one of: " + strings.Join(f.oneOf, ", ")}
}

var days = regexp.MustCompile(`^([0-9]{1,4})d$`)

func durationAdvice(s string) string {
	if m := days.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1])
		return "there is no unit for days: write " + strconv.Itoa(n*24) + "h"
	}
	return "write a number with its unit, such as 90s, 5m or 24h"
}

// hashCommand reads the secret from a file: what is typed stays in the shell's history.
const hashCommand = `printf 'sha256:%s\n' "$(tr -d '\r\n' < FILE | sha256sum | cut -d ' ' -f 1)"`
