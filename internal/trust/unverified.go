package trust

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

// ReadUnverified says what a token would prove, had one of the registered issuers signed it. Its signature is NOT checked, and anybody can have written it: this is for
// explaining what policies say, never for deciding. There may be several, since clusters have the
// same `iss`.
func (v *Verifier) ReadUnverified(raw string) (proofs []authority.Proof, err error) {
	token, err := inspect(raw)
	if err != nil {
		return nil, notJWT.because(err)
	}
	_, claims, err := jose.InspectUnverified(raw)
	if err != nil {
		return nil, notJWT.because(err)
	}
	hash := sha256.Sum256([]byte(raw))
	err = notSigned.because(reasonf("no registered issuer has its iss"))
	for _, o := range v.view.Load().candidates(token) {
		p, refused := o.read(claims, v.Issuer, v.Now())
		if refused != nil {
			err = refused
			continue
		}
		p.Hash = hex.EncodeToString(hash[:16])
		proofs = append(proofs, p)
	}
	if len(proofs) > 0 {
		return proofs, nil
	}
	return nil, err
}
