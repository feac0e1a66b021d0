package userservice

import "strings"

// systemdUnit renders the service for systemd. A user's manager knows no
// multi-user.target, and whoever ends the service means it. What makes the
// program give up (a wrong setting, a port that is taken) is tried a few times,
// a wrong command line (exit code 2) not at all. Once the program is removed, the
// unit does nothing, and does not fail either.
func systemdUnit(cfg Config) string {
	return "[Unit]\n" +
		"Description=" + strings.ReplaceAll(cfg.Description, "%", "%%") + "\n" +
		"ConditionFileIsExecutable=" + strings.ReplaceAll(cfg.Command[0], "%", "%%") + "\n" +
		"StartLimitIntervalSec=300\n" +
		"StartLimitBurst=5\n" +
		"\n[Service]\n" +
		"Type=exec\n" +
		"ExecStart=" + execStart(cfg.Command) + "\n" +
		"Restart=on-failure\n" +
		"RestartSec=5\n" +
		"RestartPreventExitStatus=2\n" +
		"\n[Install]\n" +
		"WantedBy=default.target\n"
}

var (
	pathEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`)
	// Variables are put into arguments, but not into the program's path.
	argEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`, `$`, `$$`)
)

// execStart leaves argv as it found it.
func execStart(argv []string) string {
	quoted := []string{`"` + pathEscapes.Replace(argv[0]) + `"`}
	for _, arg := range argv[1:] {
		quoted = append(quoted, `"`+argEscapes.Replace(arg)+`"`)
	}
	return strings.Join(quoted, " ")
}
