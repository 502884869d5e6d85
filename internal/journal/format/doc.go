// Package format is the files and lines of the journal: how they are named, written
// and read.
//
// # Files
//
// A node writes journal-<node>-<first seq, 20 digits>.jsonl, mode 0600, in a
// directory of mode 0700. A segment that has reached its size is closed and the
// next one opened; segments are never changed again. While a segment is being
// written, up to 1 MiB of zeros follows its lines: the lines end at the first
// NUL. They go when it is closed. Files of several nodes may be in one directory to
// be searched and verified, but only one process may write there; it holds a lock on
// journal.lock.
//
// # Lines
//
// Every line is one JSON object in printable ASCII: every other character is
// escaped, so no value can end a line, start a terminal sequence, or look like
// another field. The order of the members is fixed, and there is no space
// between them:
//
//	seq         from 1, no gap, over all segments of the node
//	time        when it happened: RFC 3339, UTC, six decimals
//	type        what happened: token.issued, token.refused, …
//	request_id  the correlation id that the client also got
//	remote      IP address of the caller
//	actor       who did it, where that is not the client
//	client_id
//	subject     {"issuer","id","kind"}
//	grant_type
//	grant_id
//	sid         the browser session
//	jti         the token's id
//	token_hash  hex of the first 16 bytes of the SHA-256 of the token's value
//	origin_jti  the id of the token that was exchanged for it
//	origin_hash the hash of that token's value
//	origin_pod  the name of the pod that it was bound to
//	assertion_jti  the id of the token of another issuer by which the client has proved itself
//	assertion_hash the hash of that token's value
//	assertion_pod  the name of the pod that it was bound to
//	policy      the trust policy that decided
//	aud         list of strings
//	scope
//	exp         seconds since 1970, as in the token (RFC 7519 §4.1.4)
//	error       the RFC's error code, for a refusal
//	reason      in words
//	target      what was changed: a kid, a client id, a user id, a resource id
//	count       how many equal events the line counts, if not one
//	head, jws   in a checkpoint only
//	prev        hex SHA-256 of the line before, its newline included
//
// An empty member is omitted. A value that is too long is cut and ends in
// "...[cut N bytes]". The chain runs on from segment to segment, so one line can
// be checked with nothing but `sed -n 7p FILE | sha256sum`. The `prev` of line 1
// is the SHA-256 of "signalbox journal v1 <node>\n".
//
// `time` is what the clock said. It may go back, when the clock does or when two
// requests overlap; `seq` never does.
//
// # Records of the journal itself
//
//   - journal.checkpoint: `head` (the same as `prev`), `count` (the seq of the
//     line that head is the hash of) and `jws`, a signature over
//     {"node","seq","head","time"}. It is written at the end of a segment, when
//     the journal is closed, after 10,000 records, and after 10 s when there
//     were new ones. What follows the last one is chained but not yet signed.
//   - journal.recovered: the process died while it wrote; the torn last line,
//     which was never acknowledged, was cut off. `reason` says how long it was.
//   - journal.omitted: `count` refusals of anonymous callers that were not
//     listed one by one, since there were too many different ones in a minute.
//
// # What is proved
//
// The chain alone shows accidents. A person who can write the files could
// compute it again: the signatures stop that for all lines before the last
// checkpoint, and heads that are kept elsewhere (journal.Options.Anchor) show also that
// the end was cut off.
package format
