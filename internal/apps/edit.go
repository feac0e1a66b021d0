package apps

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// An entry is one thing that a settings file says. A format makes entries of
// everything that counts in a file, so that two texts with the same entries
// mean the same.
type entry struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// A setting is one entry that is wanted.
type setting struct {
	key, value string
	optional   bool // any value of somebody else's will do
	list       bool // it stands beside others of its key
}

// in finds the setting among entries.
func (s setting) in(entries []entry) (value string, ok bool) {
	if s.list {
		return s.value, slices.Contains(entries, entry{s.key, s.value})
	}
	return lookup(entries, s.key)
}

// A format reads and edits one kind of file.
type format interface {
	// parse fails on everything it is not sure about.
	parse(text string) ([]entry, error)
	// insert returns where to put what, and the entries this makes.
	insert(text string, set []setting) ([]edit, []entry, error)
}

// An edit inserts Text at the byte At; with several, in the text that the ones
// before have made.
type edit struct {
	At   int    `json:"at"`
	Text string `json:"text"`
}

// A plan is what Apply would do to a file.
type plan struct {
	file   string // "": none on this system
	format format
	set    []setting
	// clash looks for other settings that are in the way; nil: there are none.
	clash  func([]entry) string
	refuse string // why it is not done
}

// shown is what a person would write into an empty file.
func (p plan) shown() string {
	edits, _, err := p.format.insert("", p.set)
	text, err2 := splice("", edits)
	if err != nil || err2 != nil {
		return ""
	}
	return strings.TrimSpace(text)
}

func lookup(entries []entry, key string) (string, bool) {
	for _, e := range slices.Backward(entries) { // the last one counts
		if e.Key == key {
			return e.Value, true
		}
	}
	return "", false
}

// present counts those of ours that are among entries.
func present(entries, ours []entry) (n int) {
	left := slices.Clone(entries)
	for _, e := range ours {
		if i := slices.Index(left, e); i >= 0 {
			left = slices.Delete(left, i, i+1)
			n++
		}
	}
	return n
}

func splice(text string, edits []edit) (string, error) {
	for _, e := range edits {
		if e.At < 0 || e.At > len(text) {
			return "", errors.New("an edit lies outside")
		}
		text = text[:e.At] + e.Text + text[e.At:]
	}
	return text, nil
}

// unsplice is splice backwards; false if the text is another one.
func unsplice(text string, edits []edit) (string, bool) {
	for _, e := range slices.Backward(edits) {
		if e.At < 0 || e.At > len(text) || !strings.HasPrefix(text[e.At:], e.Text) {
			return "", false
		}
		text = text[:e.At] + text[e.At+len(e.Text):]
	}
	return text, true
}

// checkEdit reads what was made again: it must say what was said before and
// added, no more and no less.
func checkEdit(f format, before []entry, after string, added []entry) error {
	got, err := f.parse(after)
	if err != nil {
		return fmt.Errorf("afterwards it would not be understood: %w", err)
	}
	if !sameEntries(got, append(slices.Clone(before), added...)) {
		return errors.New("afterwards it would say something else")
	}
	return nil
}

func sameEntries(a, b []entry) bool {
	order := func(x, y entry) int { return cmp.Or(cmp.Compare(x.Key, y.Key), cmp.Compare(x.Value, y.Value)) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), order), slices.SortedFunc(slices.Values(b), order))
}

// takeOut finds the text without what rec put in.
func takeOut(f format, text string, entries []entry, rec *applied) (string, bool) {
	if before, ok := unsplice(text, rec.Edits); ok && sum(text) == rec.After && sum(before) == rec.Before {
		return before, true
	}
	want := slices.Clone(entries)
	for _, e := range rec.Entries {
		if i := slices.Index(want, e); i >= 0 {
			want = slices.Delete(want, i, i+1)
		}
	}
	good := func(text string) bool {
		got, err := f.parse(text)
		return err == nil && sameEntries(got, want)
	}
	for _, ways := range []func(text string, e edit) (string, bool){withoutText, withoutMember, withoutLines} {
		try, ok := text, true
		for _, e := range slices.Backward(rec.Edits) {
			if ok {
				try, ok = ways(try, e)
			}
		}
		if ok && good(try) {
			return try, true
		}
	}
	return "", false
}

// withoutText takes out the text as it was put in.
func withoutText(text string, e edit) (string, bool) {
	if strings.Count(text, e.Text) != 1 {
		return "", false
	}
	return strings.Replace(text, e.Text, "", 1), true
}

// withoutMember takes out a JSON member that has got a comma, or lost it.
func withoutMember(text string, e edit) (string, bool) {
	core := strings.TrimSuffix(strings.TrimSpace(e.Text), ",")
	if core == "" || strings.Count(text, core) != 1 {
		return "", false
	}
	before, after, _ := strings.Cut(text, core)
	if rest, ok := strings.CutPrefix(strings.TrimLeft(after, " \t\r\n"), ","); ok {
		after = rest
	}
	return strings.TrimRight(before, " \t\r\n") + after, true
}

// withoutLines takes out each line that was put in and still stands there once.
// A section's head stays: others may have written below it.
func withoutLines(text string, e edit) (string, bool) {
	for line := range strings.Lines(e.Text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "[") {
			continue
		}
		var left strings.Builder
		found := 0
		for have := range strings.Lines(text) {
			if strings.TrimSpace(have) == line {
				found++
				continue
			}
			left.WriteString(have)
		}
		if found > 1 {
			return "", false
		}
		text = left.String()
	}
	return text, true
}

// eol is the line end that a text uses.
func eol(text string) string {
	if strings.Contains(text, "\r\n") {
		return "\r\n"
	}
	return "\n"
}

// atEnd is lines put at the end of text.
func atEnd(text, lines string) edit {
	if text != "" && text != bom && !strings.HasSuffix(text, "\n") {
		lines = eol(text) + lines
	}
	return edit{len(text), lines}
}

const bom = "\ufeff"

// The record.

// applied is what Apply did to one file.
type applied struct {
	File    string   `json:"file"`
	Addr    string   `json:"addr"` // of Kerbpass then
	Existed bool     `json:"existed"`
	Folders []string `json:"folders,omitempty"` // made for it, innermost first
	Edits   []edit   `json:"edits"`
	Entries []entry  `json:"entries"`
	Before  string   `json:"before"` // SHA-256
	After   string   `json:"after"`
}

func sum(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}

// readRecord refuses a record it does not understand: without it nothing could
// be taken back.
func (a *Apps) readRecord() (map[string]*applied, error) {
	rec := map[string]*applied{}
	b, err := os.ReadFile(a.cfg.Record)
	if errors.Is(err, fs.ErrNotExist) {
		return rec, nil
	}
	if err == nil {
		if err = json.Unmarshal(b, &rec); err == nil && rec == nil {
			rec = map[string]*applied{}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.cfg.Record, err)
	}
	return rec, nil
}

func (a *Apps) writeRecord(rec map[string]*applied) error {
	if err := os.MkdirAll(filepath.Dir(a.cfg.Record), 0o700); err != nil {
		return err
	}
	if len(rec) == 0 {
		if err := os.Remove(a.cfg.Record); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(a.cfg.Record), ".apps-*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(b, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), a.cfg.Record)
}
