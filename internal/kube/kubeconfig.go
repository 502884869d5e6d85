package kube

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"

	"go.yaml.in/yaml/v4"
)

const maxKubeconfig = 1 << 20

// kubeconfig is what we take from a kubeconfig: its current context.
type kubeconfig struct {
	server       string
	ca           []byte
	serverName   string
	certificates []tls.Certificate
	credential   credential // nil: the certificate alone
	notes        []string
}

// rawKubeconfig is the part of a kubeconfig (v1) that we read, and all that we refuse.
type rawKubeconfig struct {
	Current  string `yaml:"current-context"`
	Contexts []struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster string `yaml:"cluster"`
			User    string `yaml:"user"`
		} `yaml:"context"`
	} `yaml:"contexts"`
	Clusters []struct {
		Name    string     `yaml:"name"`
		Cluster rawCluster `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		Name string  `yaml:"name"`
		User rawUser `yaml:"user"`
	} `yaml:"users"`
}

type rawCluster struct {
	Server     string `yaml:"server"`
	CAData     string `yaml:"certificate-authority-data"`
	CAFile     string `yaml:"certificate-authority"`
	ServerName string `yaml:"tls-server-name"`
	Insecure   bool   `yaml:"insecure-skip-tls-verify"`
	Proxy      string `yaml:"proxy-url"`
}

type rawUser struct {
	CertificateData string `yaml:"client-certificate-data"`
	CertificateFile string `yaml:"client-certificate"`
	KeyData         string `yaml:"client-key-data"`
	KeyFile         string `yaml:"client-key"`
	TokenFile       string `yaml:"tokenFile"`
	Token           string `yaml:"token"`
	Username        string `yaml:"username"`
	Password        string `yaml:"password"`
	Provider        any    `yaml:"auth-provider"`
	Exec            any    `yaml:"exec"`
	As              string `yaml:"as"`
	AsUID           string `yaml:"as-uid"`
	AsGroups        any    `yaml:"as-groups"`
	AsExtra         any    `yaml:"as-user-extra"`
}

// parseKubeconfig reads a kubeconfig. Its errors name keys and never values.
func parseKubeconfig(text []byte) (k kubeconfig, err error) {
	if len(text) > maxKubeconfig {
		return k, fmt.Errorf("is longer than %d bytes", maxKubeconfig)
	}
	var raw rawKubeconfig
	if err := yaml.Unmarshal(text, &raw); err != nil {
		return k, errors.New("is not a kubeconfig")
	}
	cluster, user, err := raw.current()
	if err != nil {
		return k, err
	}
	switch {
	case cluster.Insecure:
		return k, errors.New("insecure-skip-tls-verify: whoever is between us and the cluster could say that any pod lives; give its certificate-authority-data")
	case cluster.Proxy != "":
		return k, errors.New("proxy-url: we call API servers directly; remove it")
	case cluster.CAFile != "":
		return k, errors.New("certificate-authority is a path; embed it with kubectl config view --minify --flatten --raw")
	}
	k.server, k.serverName = cluster.Server, cluster.ServerName
	if k.ca, err = base64.StdEncoding.DecodeString(cluster.CAData); err != nil {
		return k, errors.New("certificate-authority-data is not base64")
	}
	return k, k.proveBy(user)
}

// proveBy takes a credential that is not a static secret, with one exception that is noted.
func (k *kubeconfig) proveBy(user rawUser) error {
	for key, set := range map[string]bool{
		"token": user.Token != "", "username": user.Username != "", "password": user.Password != "",
		"auth-provider": user.Provider != nil, "exec": user.Exec != nil,
		"as": user.As != "", "as-uid": user.AsUID != "", "as-groups": user.AsGroups != nil, "as-user-extra": user.AsExtra != nil,
	} {
		if set {
			return fmt.Errorf("%s is not accepted: use credential: self or in-cluster, a tokenFile that somebody renews, or a client certificate", key)
		}
	}
	if user.CertificateFile != "" || user.KeyFile != "" {
		return errors.New("client-certificate and client-key are paths; embed them with kubectl config view --minify --flatten --raw")
	}
	if user.CertificateData != "" || user.KeyData != "" {
		chain, err := base64.StdEncoding.DecodeString(user.CertificateData)
		if err != nil {
			return errors.New("client-certificate-data is not base64")
		}
		key, err := base64.StdEncoding.DecodeString(user.KeyData)
		if err != nil {
			return errors.New("client-key-data is not base64")
		}
		pair, err := tls.X509KeyPair(chain, key)
		if err != nil {
			return errors.New("client-certificate-data and client-key-data are not a certificate and its key")
		}
		k.certificates = []tls.Certificate{pair}
		k.notes = append(k.notes, fmt.Sprintf("the kubeconfig has a client certificate, a static secret that nobody can revoke before %s; credential: self needs none",
			pair.Leaf.NotAfter.UTC().Format("2006-01-02")))
	}
	switch {
	case user.TokenFile != "" && !filepath.IsAbs(user.TokenFile):
		return errors.New("tokenFile is not an absolute path")
	case user.TokenFile != "":
		k.credential = &fromFile{path: user.TokenFile}
	case k.certificates == nil:
		return errors.New("the user of the current context has no credential")
	}
	return nil
}

// current finds the cluster and the user of the current context.
func (raw rawKubeconfig) current() (cluster rawCluster, user rawUser, err error) {
	for _, c := range raw.Contexts {
		if c.Name != raw.Current || raw.Current == "" {
			continue
		}
		var clusters, users int
		for _, named := range raw.Clusters {
			if named.Name == c.Context.Cluster {
				cluster = named.Cluster
				clusters++
			}
		}
		for _, named := range raw.Users {
			if named.Name == c.Context.User {
				user = named.User
				users++
			}
		}
		if clusters != 1 || users != 1 {
			return cluster, user, errors.New("the current context needs one cluster and one user of the names that it says")
		}
		return cluster, user, nil
	}
	return cluster, user, errors.New("current-context names no context")
}
