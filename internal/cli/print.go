package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
)

// printFields writes the members of an object, one a line, in their order.
func printFields(w io.Writer, value any, now time.Time) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if _, err := decoder.Token(); err != nil {
		return err
	}
	var rows [][]string
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return err
		}
		rows = append(rows, []string{fmt.Sprint(name), fieldText(fmt.Sprint(name), raw, now)})
	}
	return printTable(w, screen{}, nil, rows)
}

// fieldText says a member in words: no brackets, braces or quotes. JSON is
// what -o json is for.
func fieldText(name string, raw json.RawMessage, now time.Time) string {
	if say, ok := inWords[name]; ok {
		if text := say(raw); text != "" {
			return text
		}
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if at, err := time.Parse(time.RFC3339, text); err == nil && strings.HasSuffix(name, "_at") {
			return when(&at) + " (" + since(at, now) + ")"
		}
		return text
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return strings.Join(list, ", ")
	}
	var things []json.RawMessage
	if json.Unmarshal(raw, &things) == nil {
		texts := make([]string, len(things))
		for i, thing := range things {
			texts[i] = fieldText("", thing, now)
		}
		return fmt.Sprintf("%d: %s", len(things), strings.Join(texts, "; "))
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) == nil && members != nil {
		var texts []string
		for _, member := range slices.Sorted(maps.Keys(members)) {
			texts = append(texts, member+" "+fieldText(member, members[member], now))
		}
		return strings.Join(texts, ", ")
	}
	return string(raw)
}

// inWords are the members that need a word of their own. An empty answer means
// that the value is not what was expected.
var inWords = map[string]func(json.RawMessage) string{
	"secrets":                  secretsText,
	"client_secret_expires_at": endText,
	"public":                   publicKeyText,
	"subject":                  subjectText,
}

func secretsText(raw json.RawMessage) string {
	var secrets []admin.LiveSecret
	if json.Unmarshal(raw, &secrets) != nil {
		return ""
	}
	texts := make([]string, len(secrets))
	for i, secret := range secrets {
		texts[i] = "one"
		if secret.CreatedAt != nil {
			texts[i] += " made " + when(secret.CreatedAt)
		}
		if secret.Current {
			texts[i] += " until it is rotated"
		} else {
			texts[i] += " until " + when(secret.ExpiresAt)
		}
	}
	return strings.Join(texts, ", ")
}

// endText: 0 is how RFC 7591 §3.2.1 writes that it does not expire.
func endText(raw json.RawMessage) string {
	var seconds int64
	if json.Unmarshal(raw, &seconds) != nil {
		return ""
	}
	if seconds == 0 {
		return "never"
	}
	end := time.Unix(seconds, 0)
	return when(&end)
}

// publicKeyText names the kind of key: nobody reads the numbers of one.
func publicKeyText(raw json.RawMessage) string {
	var key struct{ Kty, Crv string }
	if json.Unmarshal(raw, &key) != nil || key.Kty == "" {
		return ""
	}
	return strings.TrimSpace(key.Kty+" "+key.Crv) + " (in full with -o json)"
}

func subjectText(raw json.RawMessage) string {
	var subject admin.Subject
	if json.Unmarshal(raw, &subject) != nil {
		return ""
	}
	text := strings.TrimSpace(subject.Kind + " " + subject.ID)
	if subject.Issuer != "" {
		text += " of " + subject.Issuer
	}
	return text
}

// count is a number with its noun.
func count[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func when(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// since is an age in a sentence.
func since(t, now time.Time) string {
	if t.After(now) {
		return age(&t, now)
	}
	return age(&t, now) + " ago"
}
