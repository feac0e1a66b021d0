package doctor_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kerbpass/internal/doctor"
)

func returns(f doctor.Finding) func(context.Context) doctor.Finding {
	return func(context.Context) doctor.Finding { return f }
}

func states(r doctor.Report) string {
	var all []string
	for _, f := range r.Findings {
		all = append(all, f.ID+":"+string(f.State))
	}
	return strings.Join(all, " ")
}

func TestOrderAndNeeds(t *testing.T) {
	var asked []string
	check := func(id string, s doctor.State, needs ...string) doctor.Check {
		return doctor.Check{ID: id, Title: "Title of " + id, Needs: needs, Run: func(context.Context) doctor.Finding {
			asked = append(asked, id)
			return doctor.Finding{ID: "not mine", State: s, Cause: "internal", Action: "Do it."}
		}}
	}
	var told []string
	r := doctor.Run(t.Context(), []doctor.Check{
		check("a", doctor.OK), check("b", doctor.Warn, "a"), check("c", doctor.Fail, "b"), check("d", doctor.OK, "c"),
		check("e", doctor.OK, "d"), check("f", doctor.Skip), check("g", doctor.OK, "f"), check("h", doctor.Fail),
	}, doctor.Meta{Version: "1", System: "x", Progress: func(n, all int, c doctor.Check) {
		if all != 8 {
			t.Errorf("%d checks, want 8", all)
		}
		told = append(told, c.ID)
	}})
	if got, want := states(r), "a:ok b:warn c:fail d:skip e:skip f:skip g:ok h:fail"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if want := strings.Fields("a b c f g h"); !slices.Equal(asked, want) || !slices.Equal(told, want) {
		t.Errorf("asked %v, told %v, want %v", asked, told, want)
	}
	if r.Healthy || r.First != "c" {
		t.Errorf("healthy %v, first %q, want c", r.Healthy, r.First)
	}
	// The link at fault is named, not the one in between.
	if e, _ := r.Find("e"); !strings.Contains(e.Seen, "Title of c") {
		t.Errorf("e: %q", e.Seen)
	}
	if all := doctor.Run(t.Context(), []doctor.Check{check("a", doctor.Warn), check("b", doctor.Skip)}, doctor.Meta{}); !all.Healthy || all.First != "" {
		t.Errorf("a warning makes it unhealthy: %+v", all)
	}
}

func TestChecksThatMisbehave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := make(chan struct{})
		began := time.Now()
		r := doctor.Run(t.Context(), []doctor.Check{
			{ID: "hangs", Run: func(context.Context) doctor.Finding { <-never; return doctor.Finding{State: doctor.OK} }},
			{ID: "hangs_too", Limit: time.Minute, Late: "kdc_unreachable", Run: func(context.Context) doctor.Finding { <-never; return doctor.Finding{State: doctor.OK} }},
			{ID: "says_itself", Limit: time.Second, Run: func(ctx context.Context) doctor.Finding {
				<-ctx.Done()
				return doctor.Finding{State: doctor.Fail, Cause: "upstream_unreachable"}
			}},
			{ID: "panics", Run: func(context.Context) doctor.Finding { panic("a secret") }},
			{ID: "nil", Run: func(context.Context) doctor.Finding { var none []doctor.Finding; return none[len(none)] }},
			{ID: "nonsense", Run: returns(doctor.Finding{State: "fine"})},
			{ID: "good", Run: returns(doctor.Finding{State: doctor.OK})},
		}, doctor.Meta{})
		if got, want := states(r), "hangs:fail hangs_too:fail says_itself:fail panics:fail nil:fail nonsense:fail good:ok"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		for i, cause := range []string{"timeout", "kdc_unreachable", "upstream_unreachable", "internal", "internal", "internal", ""} {
			if f := r.Findings[i]; f.Cause != cause || strings.Contains(f.Seen, "secret") || cause != "" && f.ID != "says_itself" && f.Action == "" {
				t.Errorf("%s: got %+v, want cause %q and an action", f.ID, f, cause)
			}
		}
		if took := time.Since(began); took > 70*time.Second {
			t.Errorf("took %v", took)
		}
		if f := r.Findings[2]; f.Millis != 1000 {
			t.Errorf("took %d ms, want 1000", f.Millis)
		}
		close(never)
	})
}

func TestUserinfoIsNeverShown(t *testing.T) {
	r := doctor.Run(t.Context(), []doctor.Check{{ID: "a", Run: returns(doctor.Finding{State: doctor.OK,
		Seen: "http://me:hunter2@p.test:80 is used.", Action: "Not https://hunter2@p.test."})}}, doctor.Meta{})
	if f := r.Findings[0]; f.Seen != "http://p.test:80 is used." || f.Action != "Not https://p.test." {
		t.Errorf("got %q %q", f.Seen, f.Action)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	r := doctor.Run(ctx, []doctor.Check{
		{ID: "a", Run: returns(doctor.Finding{State: doctor.OK})},
		{ID: "b", Run: func(context.Context) doctor.Finding { cancel(); <-release; return doctor.Finding{State: doctor.OK} }},
		{ID: "c", Run: func(context.Context) doctor.Finding { t.Error("asked"); return doctor.Finding{} }},
	}, doctor.Meta{})
	if got := states(r); got != "a:ok b:skip c:skip" || r.Healthy {
		t.Errorf("got %s, healthy %v", got, r.Healthy)
	}
	if text := r.Text(doctor.Look{}); !strings.Contains(text, "not finished") {
		t.Errorf("an examination that was ended:\n%s", text)
	}
}

func example() doctor.Report {
	return doctor.Report{
		Time: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Version: "1.2.3", System: "linux/amd64", First: "tgt",
		Findings: []doctor.Finding{
			{ID: "settings", Title: "Settings", State: doctor.OK, Seen: "Everything in /home/x/config.toml."},
			{ID: "clock", Title: "Clock", State: doctor.Warn, Seen: "It differs by 4 minutes from the upstream's.", Cause: "clock_skew", Action: "Set the clock, and the time zone with it, so that it agrees with the one of the company's servers.", Took: 1234 * time.Millisecond, Millis: 1234},
			{ID: "tgt", Title: "Ticket", State: doctor.Fail, Seen: "None in FILE:/tmp/a-very-long-name-of-a-cache-that-is-longer-than-forty-characters.\x1b[2J", Cause: "no_ticket", Action: "Sign in: kerbpass login"},
			{ID: "spn", Title: "Service name", State: doctor.Skip, Seen: "Not asked: see \"Ticket\"."},
		},
	}
}

func TestText(t *testing.T) {
	const want = `Kerbpass 1.2.3, linux/amd64,
2026-03-04T05:06:07Z

The first broken link: Ticket
  None in
  FILE:/tmp/a-very-long-name-of-a-cache-that-is-longer-than-forty-characters.[2J
  What to do: Sign in: kerbpass login
  Cause: no_ticket

The whole chain:

  ok    Settings
        Everything in
        /home/x/config.toml.
  WARN  Clock (1.2 s)
        It differs by 4 minutes from the
        upstream's.
        What to do: Set the clock, and
        the time zone with it, so that
        it agrees with the one of the
        company's servers.
        Cause: clock_skew
  FAIL  Ticket
        See above.
  skip  Service name
        Not asked: see "Ticket".
`
	got := example().Text(doctor.Look{Width: 40})
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if strings.ContainsRune(got, '\x1b') {
		t.Error("a control character without a terminal")
	}
	coloured := example().Text(doctor.Look{Width: 40, Colour: true})
	if plain := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[2m", "", "\x1b[0m", "").Replace(coloured); plain != want || plain == coloured {
		t.Errorf("colour changes more than colour, or nothing:\n%q", coloured)
	}
	r := example()
	r.Findings, r.First = r.Findings[:2], ""
	r.Healthy = true
	if text := r.Text(doctor.Look{}); !strings.Contains(text, "It works, but take note: Clock") {
		t.Errorf("a warning:\n%s", text)
	}
	r.Findings = r.Findings[:1]
	if text := r.Text(doctor.Look{}); !strings.Contains(text, "Everything works") {
		t.Errorf("healthy:\n%s", text)
	}
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal(doctor.Run(t.Context(), nil, doctor.Meta{Version: "1", System: "s"}))
	if err != nil || !strings.Contains(string(b), `"healthy":true,"first":"","findings":[]`) || !strings.Contains(string(b), `Z","version":"1","system":"s"`) {
		t.Errorf("%v %s", err, b)
	}
	r := example()
	r.Findings = r.Findings[1:2]
	b, _ = json.Marshal(r)
	const want = `{"time":"2026-03-04T05:06:07Z","version":"1.2.3","system":"linux/amd64","healthy":false,"first":"tgt","findings":[{"id":"clock","title":"Clock","state":"warn","seen":"It differs by 4 minutes from the upstream's.","cause":"clock_skew","action":"Set the clock, and the time zone with it, so that it agrees with the one of the company's servers.","ms":1234}]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}
