package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// boms tells of every binary what is in it, as CycloneDX. The list is the one that the
// linker wrote into the binary, so it can neither be too long nor too short.
func (r *release) boms() error {
	for _, t := range r.targets {
		info, err := buildinfo.ReadFile(r.binary(t))
		if err != nil {
			return err
		}
		data, err := os.ReadFile(r.binary(t))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		product := cdx.Component{
			BOMRef: "signalbox", Type: cdx.ComponentTypeApplication, Name: "signalbox", Version: r.version,
			PackageURL: "pkg:golang/" + info.Main.Path + "@v" + r.version,
			Licenses:   &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
			Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		}
		components := []cdx.Component{{
			BOMRef: "go", Type: cdx.ComponentTypeLibrary, Name: "std", Version: strings.TrimPrefix(info.GoVersion, "go"),
			PackageURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"),
		}}
		uses := []string{"go"}
		for _, m := range info.Deps {
			c := component(m)
			components = append(components, c)
			uses = append(uses, c.BOMRef)
		}
		bom := cdx.NewBOM()
		bom.SerialNumber = serial(sum)
		bom.Metadata = &cdx.Metadata{Timestamp: r.date.Format(time.RFC3339), Component: &product}
		bom.Components = &components
		bom.Dependencies = &[]cdx.Dependency{{Ref: product.BOMRef, Dependencies: &uses}}
		out, err := os.Create(filepath.Join(r.dist, r.name(t)+".cdx.json"))
		if err != nil {
			return err
		}
		err = cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
		if closed := out.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func component(m *debug.Module) cdx.Component {
	if m.Replace != nil {
		m = m.Replace
	}
	c := cdx.Component{
		BOMRef: m.Path + "@" + m.Version, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version,
		PackageURL: "pkg:golang/" + m.Path + "@" + m.Version,
	}
	if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(sum) == sha256.Size {
		c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
	}
	return c
}

// serial is a UUID (version 8) that the same binary gets every time.
func serial(sum [32]byte) string {
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

const (
	provenanceFile = "provenance.intoto.json"
	checksumFile   = "SHA256SUMS"
	buildType      = "https://github.com/signalbox-sts/signalbox/blob/main/release/README.md"
)

// statement is in-toto v1 with the provenance of SLSA v1.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest"`
}

type predicate struct {
	BuildDefinition struct {
		BuildType            string         `json:"buildType"`
		ExternalParameters   map[string]any `json:"externalParameters"`
		InternalParameters   map[string]any `json:"internalParameters"`
		ResolvedDependencies []subject      `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
	} `json:"runDetails"`
}

// provenance says from which commit and how all of this was made. Nobody has signed
// it, and it says so: whoever publishes a release signs.
func (r *release) provenance() error {
	made, sums, err := r.sums()
	if err != nil {
		return err
	}
	var targets []string
	for _, t := range r.targets {
		targets = append(targets, t.os+"/"+t.arch)
	}
	s := statement{Type: "https://in-toto.io/Statement/v1", PredicateType: "https://slsa.dev/provenance/v1"}
	for _, name := range made {
		s.Subject = append(s.Subject, subject{Name: name, Digest: map[string]string{"sha256": sums[name]}})
	}
	definition := &s.Predicate.BuildDefinition
	definition.BuildType = buildType
	definition.ExternalParameters = map[string]any{"version": r.version, "targets": targets}
	definition.InternalParameters = map[string]any{"go": runtime.Version(), "snapshot": r.snapshot, "signed": false}
	definition.ResolvedDependencies = []subject{{
		URI:    "git+https://github.com/signalbox-sts/signalbox",
		Digest: map[string]string{"gitCommit": strings.TrimSuffix(r.commit, "-dirty")},
	}}
	s.Predicate.RunDetails.Builder.ID = buildType + "#local"
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.dist, provenanceFile), append(data, '\n'), 0o644); err != nil {
		return err
	}
	if made, sums, err = r.sums(); err != nil {
		return err
	}
	var lines strings.Builder
	for _, name := range made {
		lines.WriteString(sums[name] + "  " + name + "\n")
	}
	return os.WriteFile(filepath.Join(r.dist, checksumFile), []byte(lines.String()), 0o644)
}

// sums are the files that were made, in order, with their checksums.
func (r *release) sums() (names []string, sums map[string]string, err error) {
	entries, err := os.ReadDir(r.dist)
	if err != nil {
		return nil, nil, err
	}
	sums = map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(r.dist, e.Name()))
		if err != nil {
			return nil, nil, err
		}
		sum := sha256.Sum256(data)
		names = append(names, e.Name())
		sums[e.Name()] = hex.EncodeToString(sum[:])
	}
	return names, sums, nil
}
