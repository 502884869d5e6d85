package node

import (
	"crypto/hmac"
	"crypto/sha256"
	"maps"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/policy"
	"github.com/signalbox-sts/signalbox/internal/server/metadata"
)

// current is everything of the configuration that may change while the node
// runs. It is never changed, and swapped as one value.
type current struct {
	config      *config.Config
	issuer      authority.Issuer
	keys        keys.Settings
	file        *authority.StaticObjects // what the file declares
	withheld    []authority.Revocation   // whom a newer file ends
	ended       []authority.Revocation   // those of withheld who were ended once more: see heed
	static      *authority.StaticObjects // the file without them
	policies    *policy.Set
	supported   metadata.Supported
	declaration authority.Declaration
	since       time.Time // when it came into force
}

// currentOf turns a valid configuration into what the node works with.
func (n *Node) currentOf(cfg *config.Config) (*current, error) {
	static, err := staticOf(cfg, n.master)
	if err != nil {
		return nil, err
	}
	policies, err := PoliciesOf(cfg)
	if err == nil && n.hooks.Static != nil {
		declared := n.hooks.Static()
		declared.Issuer = cfg.Issuer
		if static, err = declared.Complete(); err == nil {
			policies, err = policy.Compile(cfg.Issuer, slices.Collect(maps.Values(static.Policies)))
		}
	}
	if err != nil {
		return nil, err
	}
	c := &current{
		config: cfg, policies: policies, issuer: issuerOf(cfg), keys: keys.Settings{RotateEvery: cfg.Keys.RotateEvery}, file: static, static: static,
		supported: metadata.Supported{Algorithms: cfg.Keys.Algorithms, ResourceScopes: static.ResourceScopes()},
	}
	for _, name := range cfg.Keys.Algorithms {
		c.keys.Algorithms = append(c.keys.Algorithms, jose.Algorithm(name))
	}
	// Under a key, since it is a hash over passwords too and is in the database.
	key, content := n.master.Derive("declaration"), cfg.Declaration()
	sum := hmac.New(sha256.New, key[:])
	sum.Write(content[:])
	c.declaration = authority.Declaration{Content: [32]byte(sum.Sum(nil)), Digests: digestsOf(static)}
	return c, nil
}

// without is c without those whom newer ends.
func (c *current) without(newer authority.Declaration) *current {
	return c.withholding(newer.Ends(c.declaration))
}

func (c *current) withholding(ended []authority.Revocation) *current {
	rest := *c
	rest.withheld, rest.static = ended, c.file.Without(ended)
	return &rest
}

func (n *Node) settings() authority.Issuer       { return n.current.Load().issuer }
func (n *Node) keySettings() keys.Settings       { return n.current.Load().keys }
func (n *Node) supported() metadata.Supported    { return n.current.Load().supported }
func (n *Node) static() *authority.StaticObjects { return n.current.Load().static }
func (n *Node) config() *config.Config           { return n.current.Load().config }
