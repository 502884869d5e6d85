// Package password hashes people's passwords with argon2id (RFC 9106) and
// bounds what that costs: two hashes at a time, short queues in which nobody
// pushes others aside (queue.go), and a longest password
// (docs/security/threats.md J 111). Secrets made by a machine never come here:
// a fast hash is right for those.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The cost of a new hash: OWASP's choice for argon2id, 19 MiB and two passes.
const (
	memoryKiB = 19456
	passes    = 2
	lanes     = 1
	saltSize  = 16
	hashSize  = 32
)

// MaxLength is the longest password in bytes. Longer ones are refused, never cut.
const MaxLength = 1024

// The most that a stored hash may ask of this machine. A hash made elsewhere
// may cost more than ours, within reason.
const (
	maxMemoryKiB = 64 << 10
	maxPasses    = 10
	maxLanes     = 4
)

// minMemoryKiB is the least that OWASP names for argon2id. Verify takes less,
// Check does not: a hash that comes now can be made well.
const minMemoryKiB = 7168

var (
	// ErrLength is a password that is empty or longer than MaxLength.
	ErrLength = errors.New("a password has 1 to 1024 bytes")
	// ErrFormat is a stored hash that is not argon2id in PHC string format, asks
	// for more than this machine gives, or is guessed too cheaply.
	ErrFormat = errors.New("not an argon2id hash that can be used")
	// ErrBusy says that too many passwords are being checked. Try again soon.
	ErrBusy = errors.New("too many passwords are being checked")

	errSyntax = fmt.Errorf("%w: expected a PHC string, $argon2id$v=19$m=…,t=…,p=…$salt$hash", ErrFormat)
	errCost   = fmt.Errorf("%w: its cost is too low or too high: m is %d to %d (KiB), t 1 to %d, p 1 to %d",
		ErrFormat, minMemoryKiB, maxMemoryKiB, maxPasses, maxLanes)
)

// Hash makes a hash in PHC string format with a new salt.
func Hash(password string) (string, error) {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails
	return HashWithSalt(password, [saltSize]byte(salt))
}

// HashWithSalt makes the same hash of the same password and salt. Each account
// needs its own salt, which nobody can guess.
func HashWithSalt(password string, salt [saltSize]byte) (string, error) {
	if !fits(password) {
		return "", ErrLength
	}
	release, err := running.acquire(context.Background(), Caller{Known: true}, 1)
	if err != nil {
		return "", err
	}
	defer release()
	sum := argon2.IDKey([]byte(password), salt[:], passes, memoryKiB, lanes, hashSize)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memoryKiB, passes, lanes,
		encoding.EncodeToString(salt[:]), encoding.EncodeToString(sum)), nil
}

// Verify says whether the password is the one of the hash. A password of a
// wrong length never is. An error (ErrFormat, ErrBusy, or ctx's error if the
// wait was too long) says nothing about the password.
func Verify(ctx context.Context, caller Caller, phc, password string) (bool, error) {
	stored, err := parse(phc)
	if err != nil {
		return false, err
	}
	return stored.verify(ctx, caller, password)
}

func (stored phcHash) verify(ctx context.Context, caller Caller, password string) (bool, error) {
	if !fits(password) {
		password = "\x00" // costs the same, and fits refuses a lone NUL as a password
	}
	release, err := running.acquire(ctx, caller, stored.weight())
	if err != nil {
		return false, err
	}
	defer release()
	sum := argon2.IDKey([]byte(password), stored.salt, stored.passes, stored.memoryKiB, stored.lanes, uint32(len(stored.sum)))
	return subtle.ConstantTimeCompare(sum, stored.sum) == 1, nil
}

// VerifyNobody takes as long as Verify, for a user who does not exist
// (docs/security/threats.md J 103): as long as the most expensive of like, the
// hashes that were made elsewhere, and at least as long as a hash of ours. It
// fails only as Verify does.
func VerifyNobody(ctx context.Context, caller Caller, password string, like ...string) error {
	_, err := nobody(like).verify(ctx, caller, password)
	return err
}

// Check says whether a hash may be stored: Verify can use it, and it is not
// guessed too cheaply. ErrFormat.
func Check(phc string) error {
	stored, err := parse(phc)
	if err == nil && stored.memoryKiB < minMemoryKiB {
		return errCost
	}
	return err
}

// nobody is a hash that no known password has, at the cost of the most
// expensive of like. argon2 takes time in proportion to memory times passes.
func nobody(like []string) phcHash {
	costliest := phcHash{memoryKiB: memoryKiB, passes: passes, lanes: lanes}
	for _, phc := range like {
		h, err := parse(phc)
		if err == nil && h.memoryKiB*h.passes > costliest.memoryKiB*costliest.passes {
			costliest = h
		}
	}
	costliest.salt, costliest.sum = make([]byte, saltSize), make([]byte, hashSize)
	return costliest
}

// weight is what a hash costs, in hashes of ours.
func (stored phcHash) weight() float64 {
	return float64(stored.memoryKiB) * float64(stored.passes) / (memoryKiB * passes)
}

func fits(password string) bool {
	return password != "" && len(password) <= MaxLength && password != "\x00"
}

type phcHash struct {
	memoryKiB, passes uint32
	lanes             uint8
	salt, sum         []byte
}

var encoding = base64.RawStdEncoding.Strict()

// parse reads `$argon2id$v=19$m=…,t=…,p=…$salt$hash`, in this order only.
func parse(phc string) (phcHash, error) {
	if len(phc) > 256 || strings.ContainsAny(phc, "\r\n") {
		return phcHash{}, errSyntax
	}
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return phcHash{}, errSyntax
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return phcHash{}, errSyntax
	}
	m, okM := number(costs[0], "m=", maxMemoryKiB)
	t, okT := number(costs[1], "t=", maxPasses)
	p, okP := number(costs[2], "p=", maxLanes)
	salt, errSalt := encoding.DecodeString(parts[4])
	sum, errSum := encoding.DecodeString(parts[5])
	if errSalt != nil || errSum != nil || len(salt) < 8 || len(salt) > 64 || len(sum) < 16 || len(sum) > 64 {
		return phcHash{}, errSyntax
	}
	if !okM || !okT || !okP || m < 8*p {
		return phcHash{}, errCost
	}
	return phcHash{m, t, uint8(p), salt, sum}, nil
}

func number(s, prefix string, most uint32) (uint32, bool) {
	digits, ok := strings.CutPrefix(s, prefix)
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || n == 0 || n > uint64(most) || strconv.FormatUint(n, 10) != digits {
		return 0, false
	}
	return uint32(n), true
}
