package kinit

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"kerbpass/internal/ticket"
)

// maxAnswer is the longest line that both kinits read whole.
const maxAnswer = 1000

// SignIn gets a TGT for l.Principal into cache, or with "" where kinit puts it:
// in a collection into the principal's own cache. An empty principal is
// whoever kinit takes. An expired password can be changed with MIT's kinit
// only; Heimdal's asks for the new one at a terminal, so the error is
// [ticket.ErrPasswordExpired].
func (t *Tools) SignIn(ctx context.Context, cache string, l ticket.Login) error {
	s := &signIn{tools: t, login: l}
	args := t.cacheArgs(cache)
	if t.dialect == Heimdal {
		// A renewable ticket has to be asked for where krb5.conf does not.
		args = append(args, "--renewable", "--password-file=STDIN")
	} else {
		args = append(args, "-r", "7d")
	}
	if l.Principal != "" {
		args = append(args, "--", l.Principal)
	}
	return opError("sign in", l.Principal, s.talk(ctx, args))
}

// signIn is one run of kinit and what the person has answered so far.
type signIn struct {
	tools *Tools
	login ticket.Login
	again *ticket.Secret // the new password's repetition, not yet asked for
}

// talk runs kinit and answers its questions.
func (s *signIn) talk(ctx context.Context, args []string) error {
	defer s.wipe()
	var out []byte
	var err error
	if s.tools.dialect == MIT {
		out, err = s.tools.converse(ctx, "kinit", args, nil, s.answer)
	} else {
		answers, refused := s.ask(ctx, "", ticket.Prompt{Kind: ticket.PromptPassword, Text: s.passwordText(), Hidden: true})
		if refused != nil {
			return refused
		}
		defer answers[0].Wipe()
		out, err = s.tools.converse(ctx, "kinit", args, &answers[0], nil)
	}
	_, realm, _ := strings.Cut(s.login.Principal, "@")
	return meaning(signInWords, realm, out, err)
}

func (s *signIn) passwordText() string {
	if s.login.Principal == "" {
		return "Password"
	}
	return "Password for " + s.login.Principal
}

// answer is asked by MIT's kinit, which without a terminal prints its
// questions and reads lines.
func (s *signIn) answer(ctx context.Context, banner, question string) (ticket.Secret, error) {
	text := strings.TrimRight(question, ": ")
	switch question {
	case "Enter new password: ":
		answers, err := s.ask(ctx, banner,
			ticket.Prompt{Kind: ticket.PromptNewPassword, Text: text, Hidden: true},
			ticket.Prompt{Kind: ticket.PromptNewAgain, Text: "Enter it again", Hidden: true})
		if err != nil {
			return ticket.Secret{}, err
		}
		s.wipe()
		s.again = &answers[1]
		return answers[0], nil
	case "Enter it again: ":
		if s.again == nil {
			return ticket.Secret{}, errors.New("kinit wants a repetition of nothing")
		}
		again := *s.again
		s.again = nil
		return again, nil
	}
	kind := ticket.PromptOther
	if strings.HasPrefix(question, "Password for ") {
		kind = ticket.PromptPassword
	}
	answers, err := s.ask(ctx, banner, ticket.Prompt{Kind: kind, Text: text, Hidden: true})
	if err != nil {
		return ticket.Secret{}, err
	}
	return answers[0], nil
}

// ask returns one answer that kinit can read for each question.
func (s *signIn) ask(ctx context.Context, banner string, questions ...ticket.Prompt) ([]ticket.Secret, error) {
	answers, err := s.login.Prompt(ctx, banner, questions)
	if err == nil && len(answers) != len(questions) {
		err = errors.New("the prompt gave too few or too many answers")
	}
	for i, a := range answers {
		b := a.Expose()
		switch {
		case err != nil:
		case len(b) == 0 && questions[i].Kind == ticket.PromptPassword: // Heimdal's would ask at a terminal
			err = &ticket.KDCError{Text: "it is empty", Err: ticket.ErrPassword}
		case len(b) > maxAnswer || bytes.ContainsAny(b, "\n\r\x00"):
			err = errors.New("an answer is too long for kinit, or contains a line break")
		}
	}
	if err != nil {
		for _, a := range answers {
			a.Wipe()
		}
		return nil, err
	}
	return answers, nil
}

func (s *signIn) wipe() {
	if s.again != nil {
		s.again.Wipe()
	}
}
