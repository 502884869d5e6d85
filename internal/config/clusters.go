package config

import (
	"crypto/x509"
	"encoding/json"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config/source"
	"github.com/signalbox-sts/signalbox/internal/suggest"
)

// Clusters, trusted issuers, trust policies, and what is called outside. What
// they may be is in authority's rule book, as for clients.

func (d *document) outbound() {
	o := &d.config.Outbound
	d.resolve("outbound.ca_file", &o.CAFile)
	if o.CAFile != "" {
		o.CA = d.certificates("outbound.ca_file", o.CAFile)
	}
	u, err := url.Parse(d.config.Issuer)
	if o.AllowLoopback && !d.Failed["issuer"] && err == nil && u.Host != "" && !OnLoopback(net.JoinHostPort(u.Hostname(), "0")) {
		d.Fail("outbound.allow_loopback", "is true, and the issuer is public: "+source.Quote(d.config.Issuer),
			"remove it: whoever may register a URL here could reach what listens on this machine; it is for an issuer on a loopback address")
	}
}

// certificates reads a file of certificates to trust.
func (d *document) certificates(path, file string) []byte {
	data, _, ok := d.read(path, file)
	if ok && !x509.NewCertPool().AppendCertsFromPEM(data) {
		d.Fail(path, source.Quote(file)+" has no certificate", "write PEM blocks that begin with -----BEGIN CERTIFICATE-----")
		return nil
	}
	return data
}

func (d *document) clusters(refs authority.References) {
	names, keys := map[string]int{}, map[string]string{}
	refs.KeyOwner = among(keys)
	refs.Algorithms = nil // told once
	if p := authority.CheckClusterAlgorithms(d.config.Keys.Algorithms); p != nil && len(d.config.Clusters) > 0 && !d.Inside["keys.algorithms"] {
		d.Fail("keys.algorithms", p.Text, p.Fix)
	}
	for i := range d.config.Clusters {
		if len(d.Errors) >= source.MaxErrors {
			return
		}
		c := &d.config.Clusters[i]
		d.clusterFiles(i, c)
		d.rules("clusters", i, d.inFiles("clusters", i, c.Validate()))
		found, _ := c.CheckReferences(refs) // a map does not fail
		for n, p := range found {
			id, is := indexed(p.Field, "introspection_clients", c.IntrospectionClients)
			if p.Field == "webhook.caller" {
				id, is = c.Webhook.Caller, true
			}
			if _, err := refs.Client(id); is && err != nil {
				found[n].Fix = cmpOr(d.nearClient(id), "add it to clients")
			}
		}
		d.rules("clusters", i, d.inFiles("clusters", i, found))
		if name := at("clusters", i, "name"); d.IsSet(name) {
			d.once(name, names, c.Name, i, "clusters")
		}
		for _, thumbprint := range c.KeyThumbprints() {
			keys[thumbprint] = c.Name
		}
	}
	d.trustedIssuers(refs)
}

// clusterFiles reads what is beside the configuration.
func (d *document) clusterFiles(i int, c *Cluster) {
	c.JWKSFile, c.CAFile, c.KubeconfigFile = d.path(c.JWKSFile), d.path(c.CAFile), d.path(c.KubeconfigFile)
	if section := at("clusters", i, "webhook"); c.Webhook == nil && d.IsSet(section) && d.Where[section].Value.Kind == yaml.MappingNode {
		c.Webhook = new(authority.Webhook) // for the rule that it names somebody
	}
	if c.JWKSFile != "" {
		d.proofKeys(at("clusters", i, "jwks_file"), c.JWKSFile, &c.JWKS, &c.JWKSURI)
	}
	if c.CAFile != "" {
		data, _, _ := d.read(at("clusters", i, "ca_file"), c.CAFile)
		c.CA = string(data)
	}
	if c.KubeconfigFile == "" {
		return
	}
	path := at("clusters", i, "kubeconfig_file")
	data, world, ok := d.read(path, c.KubeconfigFile)
	if !ok {
		if d.policiesOnly { // it is reached, whatever the file says about how
			c.Kubeconfig = []byte(notAtHand)
		}
		return
	}
	c.Kubeconfig = data
	found := checkKubeconfig(data)
	switch {
	case found.problem != "":
		d.Fail(path, found.problem, found.fix)
	case found.certificate:
		d.warn(path, "it has a client certificate, which is good until it expires; credential: self leaves nothing static")
		if world {
			d.warnWorld(path, c.KubeconfigFile)
		}
	}
}

// notAtHand takes the place of what is in a file that LoadPolicies does not find.
const notAtHand = "https://not-at-hand.invalid"

// proofKeys reads a key set. Where that is not at hand the keys are elsewhere.
func (d *document) proofKeys(path, file string, keys *json.RawMessage, uri *string) {
	data, _, ok := d.read(path, file)
	if *keys = data; !ok && d.policiesOnly {
		*uri = notAtHand
	}
}

// inFiles: a configuration has no pasted keys and certificates, but names of files.
func (d *document) inFiles(list string, i int, found []authority.Problem) (told []authority.Problem) {
	for _, p := range found {
		if p.Field == "jwks" || p.Field == "ca" {
			p.Field += "_file"
		}
		unread := d.Failed[at(list, i, "jwks_file")] || d.Failed[at(list, i, "kubeconfig_file")]
		if unread && slices.Contains([]string{"issuer", "api_server", "pods", "terminating_pods"}, p.Field) {
			continue // it may only follow from the file that could not be read
		}
		told = append(told, p)
	}
	return told
}

// kubeconfig is as much of one as has to be looked at.
type kubeconfig struct {
	Clusters []struct {
		Cluster struct {
			Server   string `yaml:"server"`
			Insecure bool   `yaml:"insecure-skip-tls-verify"`
			CA       string `yaml:"certificate-authority"`
		} `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		User struct {
			Token       string    `yaml:"token"`
			TokenFile   string    `yaml:"tokenFile"`
			Password    string    `yaml:"password"`
			Provider    yaml.Node `yaml:"auth-provider"`
			Exec        yaml.Node `yaml:"exec"`
			Certificate string    `yaml:"client-certificate"`
			CertData    string    `yaml:"client-certificate-data"`
			Key         string    `yaml:"client-key"`
		} `yaml:"user"`
	} `yaml:"users"`
}

type kubeconfigFound struct {
	mistake
	certificate bool
}

// checkKubeconfig refuses what is a static credential, or is kept elsewhere. No
// message shows anything of the file.
func checkKubeconfig(data []byte) (found kubeconfigFound) {
	const ours = "use credential: self or in-cluster, a client certificate, or tokenFile"
	refuse := func(problem, fix string) kubeconfigFound { return kubeconfigFound{mistake: mistake{problem, fix}} }
	var k kubeconfig
	if yaml.Load(data, &k) != nil || len(k.Clusters) == 0 || len(k.Users) == 0 {
		return refuse("is not a kubeconfig", "make one with: kubectl config view --minify --raw")
	}
	var files []string
	for _, c := range k.Clusters {
		if c.Cluster.Insecure {
			return refuse("has insecure-skip-tls-verify", "add certificate-authority-data: whoever is in between could answer that a dead pod lives")
		}
		if !strings.HasPrefix(c.Cluster.Server, "https://") {
			return refuse("has a server that is not an https URL", "write it like https://10.0.0.1:6443")
		}
		files = append(files, c.Cluster.CA)
	}
	for _, u := range k.Users {
		switch u := u.User; {
		case u.Token != "":
			return refuse("has an inline token, which would be good for years", ours)
		case u.Password != "":
			return refuse("has a password", ours)
		case u.Provider.Kind != 0 || u.Exec.Kind != 0:
			return refuse("runs a program to get a credential", ours)
		case u.Certificate != "" || u.CertData != "":
			found.certificate = true
		}
		files = append(files, u.User.TokenFile, u.User.Certificate, u.User.Key)
	}
	for _, file := range files {
		if file != "" && !filepath.IsAbs(file) {
			return refuse("names a file by a relative path", "write it in full, or use the …-data members")
		}
	}
	return found
}

func (d *document) trustedIssuers(refs authority.References) {
	names, issuers := map[string]int{}, map[string]int{}
	for i := range d.config.TrustedIssuers {
		if len(d.Errors) >= source.MaxErrors {
			return
		}
		t := &d.config.TrustedIssuers[i]
		if t.JWKSFile = d.path(t.JWKSFile); t.JWKSFile != "" {
			d.proofKeys(at("trusted_issuers", i, "jwks_file"), t.JWKSFile, &t.JWKS, &t.JWKSURI)
		}
		d.rules("trusted_issuers", i, d.inFiles("trusted_issuers", i, t.Validate()))
		found, _ := t.CheckReferences(refs) // a map does not fail
		d.rules("trusted_issuers", i, d.inFiles("trusted_issuers", i, found))
		d.warnings("trusted_issuers", i, t.Warnings())
		for _, one := range []struct {
			key, value string
			seen       map[string]int
		}{{"name", t.Name, names}, {"issuer", t.Issuer, issuers}, {"trust_domain", t.TrustDomain, issuers}} {
			if path := at("trusted_issuers", i, one.key); d.IsSet(path) && !d.Failed[path] {
				d.once(path, one.seen, one.value, i, "trusted_issuers")
			}
		}
	}
}

func (d *document) policies(refs authority.References) {
	names := map[string]int{}
	for i := range d.config.Policies {
		if len(d.Errors) >= source.MaxErrors {
			return
		}
		p := &d.config.Policies[i]
		d.rules("policies", i, p.Validate())
		if name := at("policies", i, "name"); d.IsSet(name) {
			d.once(name, names, p.Name, i, "policies")
		}
		if issuer, err := refs.TrustedIssuer(p.From.TrustedIssuer); err == nil {
			d.warnings("policies", i, p.Warnings(issuer.Issuer))
		}
		found, _ := p.CheckReferences(refs) // a map does not fail
		var told []authority.Problem
		for _, problem := range found {
			switch problem.Field {
			case "from.cluster":
				if d.keptElsewhere(at("policies", i, problem.Field), p.From.Cluster, refs) {
					continue
				}
			case "to.cluster":
				if d.keptElsewhere(at("policies", i, problem.Field), p.To.Cluster, refs) {
					continue
				}
			case "from.client":
				if d.Inside["clients"] {
					continue // a wrong client would make its policies look wrong
				}
				if _, err := refs.Client(p.From.Client); err != nil {
					problem.Fix = cmpOr(d.nearClient(p.From.Client), "add it to clients")
				}
			case "from.trusted_issuer":
				problem.Fix = cmpOr(d.nearTrustedIssuer(p.From.TrustedIssuer), problem.Fix)
			case "to.resource":
				problem.Fix = cmpOr(d.nearResource(p.To.Resource), "add it to resources")
			}
			told = append(told, problem)
		}
		d.rules("policies", i, told)
	}
}

// warnings tells what breaks no rule and lets in more than was meant.
func (d *document) warnings(list string, i int, found []authority.Problem) {
	for _, p := range found {
		d.warn(at(list, i, p.Field), p.Text+"; "+p.Fix)
	}
}

// keptElsewhere notes a cluster that is not in this file: the admin API may keep it.
func (d *document) keptElsewhere(path, name string, refs authority.References) bool {
	if _, err := refs.Cluster(name); err == nil {
		return false
	}
	if !d.Inside[path] && !d.Inside["clusters"] {
		d.config.Elsewhere = append(d.config.Elsewhere, Reference{path, name})
	}
	return true
}

func (d *document) nearCluster(name string) string {
	var names []string
	for _, c := range d.config.Clusters[:min(len(d.config.Clusters), maxNear)] {
		names = append(names, c.Name)
	}
	return suggest.DidYouMean(name, names)
}

func (d *document) nearTrustedIssuer(name string) string {
	var names []string
	for _, t := range d.config.TrustedIssuers[:min(len(d.config.TrustedIssuers), maxNear)] {
		names = append(names, t.Name)
	}
	return suggest.DidYouMean(name, names)
}
