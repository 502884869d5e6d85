package jose

import (
	"errors"
	"fmt"
)

// Every error of this package wraps one of these. The text is fixed and never holds a byte of a token.
var (
	ErrMalformed = errors.New("jose: malformed")                  // not a compact JWS over a JSON object
	ErrAlgorithm = errors.New("jose: algorithm not allowed")      // alg missing, none, unknown, or not in the caller's list
	ErrHeader    = errors.New("jose: header member not allowed")  // crit, b64, zip, enc
	ErrType      = errors.New("jose: wrong token type")           // typ is not one that the caller accepts
	ErrKey       = errors.New("jose: key not usable")             // no key for this kid and algorithm, or a key that must not be used
	ErrSignature = errors.New("jose: signature does not verify")  //
	ErrClaim     = errors.New("jose: claim missing or malformed") //
	ErrExpired   = errors.New("jose: expired")                    //
	ErrNotYet    = errors.New("jose: not valid yet")              // nbf or iat is in the future
	ErrTooOld    = errors.New("jose: issued too long ago")        // iat is older than the caller's MaxAge
	ErrTooLong   = errors.New("jose: lives too long")             // exp is further ahead than the caller's MaxLife
)

func malformed(reason string) error { return fmt.Errorf("%w: %s", ErrMalformed, reason) }

func badKey(reason string) error { return fmt.Errorf("%w: %s", ErrKey, reason) }

func badClaim(name, reason string) error { return fmt.Errorf("%w: %s %s", ErrClaim, name, reason) }
