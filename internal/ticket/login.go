package ticket

import "context"

// A Login is one sign-in.
type Login struct {
	// Principal is alice@CORP.EXAMPLE, or alice for the default realm. Empty:
	// whoever the ticket in use belongs to, else the name of the OS user.
	Principal string

	// Prompt answers the KDC's and the library's questions. Required.
	Prompt Prompter
}

// PromptKind says what a [Prompt] asks for.
type PromptKind string

// The kinds. PromptOther is whatever the library's plug-ins ask: a one-time
// password, a PIN, which of several tokens.
const (
	PromptPassword    PromptKind = "password"
	PromptNewPassword PromptKind = "new_password"
	PromptNewAgain    PromptKind = "new_password_again"
	PromptOther       PromptKind = "other"
)

// A Prompt is one question to the person.
type Prompt struct {
	Kind   PromptKind
	Text   string // "Password for alice@CORP.EXAMPLE", without a colon at the end
	Hidden bool   // the answer is not to be shown while it is typed
}

// A Prompter shows banner, if there is one, and returns one answer to each
// question, in order. The first call of a sign-in asks for the password, or
// for what the realm wants in its place; later ones are about a password that
// has expired or a further factor. The backend wipes the answers. An error
// ends the sign-in and is returned from it; nothing more is sent to the KDC.
type Prompter func(ctx context.Context, banner string, questions []Prompt) ([]Secret, error)
