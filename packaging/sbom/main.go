// Command sbom prints the bill of materials of released programs, as CycloneDX
// 1.6 in JSON:
//
//	go run ./packaging/sbom VERSION PROGRAM… >FILE
//
// It believes the programs: what it lists is what the linker wrote into them,
// each with the modules it really holds. Licences are those of
// docs/licences.md; a module that is not listed there is an error. The same
// programs give the same bytes; the time is SOURCE_DATE_EPOCH's.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	bom, err := generate(os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		panic("sbom: " + err.Error()) // nobody but packaging/build runs this
	}
	if _, err := os.Stdout.Write(bom); err != nil {
		panic("sbom: " + err.Error())
	}
}

// The parts of CycloneDX that are used; see its JSON schema.
type (
	document struct {
		Format       string       `json:"bomFormat"`
		Spec         string       `json:"specVersion"`
		Serial       string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Time      string    `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Licences   []licence  `json:"licenses,omitempty"`
		PURL       string     `json:"purl,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	licence struct {
		Licence struct {
			ID string `json:"id"`
		} `json:"license"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

var licenceRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (\\S+) \\|")

// generate makes the document for args, a version and the files of programs.
func generate(args []string, epoch string) ([]byte, error) {
	if len(args) < 2 {
		return nil, errors.New("usage: sbom VERSION PROGRAM…")
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	list, err := os.ReadFile(filepath.Join("docs", "licences.md"))
	if err != nil {
		return nil, err
	}
	licences := map[string]string{"std": "BSD-3-Clause"}
	for _, m := range licenceRow.FindAllStringSubmatch(string(list), -1) {
		licences[m[1]] = m[2]
	}

	version := args[0]
	product := component{Type: "application", Ref: "kerbpass@" + version, Name: "kerbpass", Version: version, Licences: licensed("MIT")}
	doc := document{Format: "CycloneDX", Spec: "1.6", Version: 1, Metadata: metadata{time.Unix(seconds, 0).UTC().Format(time.RFC3339), product}}
	top := dependency{Ref: product.Ref}
	modules := map[string]component{} // by reference
	for _, file := range args[1:] {
		program, uses, err := read(file, version)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		dep := dependency{Ref: program.Ref}
		for _, m := range uses {
			id, known := licences[m.Path]
			if !known {
				return nil, fmt.Errorf("%s: the module %s is not in docs/licences.md", file, m.Path)
			}
			c := module(m, id)
			modules[c.Ref] = c
			dep.DependsOn = append(dep.DependsOn, c.Ref)
		}
		slices.Sort(dep.DependsOn)
		top.DependsOn = append(top.DependsOn, program.Ref)
		doc.Components = append(doc.Components, program)
		doc.Dependencies = append(doc.Dependencies, dep)
	}
	for _, c := range modules {
		doc.Components = append(doc.Components, c)
		doc.Dependencies = append(doc.Dependencies, dependency{Ref: c.Ref})
	}
	doc.Dependencies = append(doc.Dependencies, top)
	slices.SortFunc(doc.Components, func(a, b component) int { return strings.Compare(a.Ref, b.Ref) })
	slices.SortFunc(doc.Dependencies, func(a, b dependency) int { return strings.Compare(a.Ref, b.Ref) })

	plain, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	doc.Serial = "urn:uuid:" + uuid(sha256.Sum256(plain))
	text, err := json.MarshalIndent(doc, "", "  ")
	return append(text, '\n'), err
}

// read returns one program and the modules in it, the standard library as one
// of them.
func read(file, version string) (program component, uses []*debug.Module, err error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return component{}, nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return component{}, nil, err
	}
	name := filepath.Base(file)
	sum := sha256.Sum256(data)
	program = component{
		Type: "file", Ref: "program/" + name, Name: name, Version: version, Licences: licensed("MIT"),
		Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}},
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "CGO_ENABLED", "-tags":
			program.Properties = append(program.Properties, property{"go:" + strings.TrimPrefix(s.Key, "-"), s.Value})
		}
	}
	std := &debug.Module{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range append([]*debug.Module{std}, info.Deps...) {
		if m.Replace != nil {
			return component{}, nil, fmt.Errorf("the module %s is replaced by %s", m.Path, m.Replace.Path)
		}
		uses = append(uses, m)
	}
	return program, uses, nil
}

// module describes one module. The sum is Go's own, over its files, and no
// hash in the sense of CycloneDX.
func module(m *debug.Module, id string) component {
	purl := "pkg:golang/" + strings.ToLower(m.Path) + "@" + m.Version
	c := component{Type: "library", Ref: purl, Name: m.Path, Version: m.Version, Licences: licensed(id), PURL: purl}
	if m.Sum != "" {
		c.Properties = []property{{"go:sum", m.Sum}}
	}
	return c
}

func licensed(id string) []licence {
	var l licence
	l.Licence.ID = id
	return []licence{l}
}

// uuid is a name-based one of our own making (version 8, RFC 9562).
func uuid(sum [sha256.Size]byte) string {
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	h := hex.EncodeToString(sum[:16])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
