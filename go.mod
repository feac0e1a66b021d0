module kerbpass

go 1.26.0

// What each module is for, and which room alone may import it
// (cmd/tray/deps_test.go enforces that):
require (
	fyne.io/systray v1.12.2 // ui/tray: the icon in the notification area
	github.com/Azure/go-ntlmssp v0.1.1 // auth: the two messages of NTLM, version 2
	github.com/BurntSushi/toml v1.6.0 // settings: reading the settings file; our own code only edits its text
	github.com/alexbrainman/sspi v0.0.0-20250919150558-7d374ff0d59e // ticket/sspi: Windows' own Kerberos instead of a library beside it
	github.com/chromedp/cdproto v0.159.0 // ui/web, tests only: what chromedp speaks
	github.com/chromedp/chromedp v0.23.0 // ui/web, tests only: the settings page in a real browser
	github.com/dop251/goja v0.0.0-20260917113740-793a2a65c13b // route/pac: runs PAC scripts; it has no releases, so a commit
	github.com/ebitengine/purego v0.11.3 // ticket/gss, ui/window: calling the system's Kerberos library and web view instead of cgo
	github.com/fsnotify/fsnotify v1.10.1 // settings: noticing edits instead of polling
	github.com/godbus/dbus/v5 v5.2.4 // netwatch, sysproxy, ui/tray, ui/notify: resume from sleep, NetworkManager and dconf, the tray's bus, notifications
	github.com/icholy/digest v1.2.0 // auth: Digest's challenges and answers
	github.com/jcmturner/gofork v1.7.6 // ticket/krb5: the ASN.1 that gokrb5's messages are made for
	github.com/jcmturner/gokrb5/v8 v8.4.4 // ticket/krb5 and demo/realm: Kerberos messages and crypto instead of our own
	github.com/kardianos/service v1.3.0 // autostart/userservice: the proxy as a user service
	github.com/spf13/cobra v1.10.2 // cmd/tray: commands, flags and shell completion
	github.com/wailsapp/go-webview2 v1.0.16 // ui/window: Windows' own web view
	github.com/zalando/go-keyring v0.2.8 // ticket/keyring: Secret Service, Keychain and Credential Manager
	golang.org/x/net v0.62.0 // route: UTS 46 host names; above what gokrb5 asks for, for its fixes
	golang.org/x/sys v0.49.0 // peer, sysproxy: socket diagnosis, TCP tables and peer credentials; inotify, the registry
	golang.org/x/term v0.47.0 // cmd/tray: a password typed without being shown
	golang.org/x/text v0.43.0 // ui: message catalogues in three languages
	howett.net/plist v1.0.1 // policy: managed preferences of macOS
)

require (
	github.com/danieljoos/wincred v1.2.3 // indirect
	github.com/dlclark/regexp2/v2 v2.5.2 // indirect
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/go-sourcemap/sourcemap v2.1.3+incompatible // indirect
	github.com/google/pprof v0.0.0-20230207041349-798e818bf904 // indirect
	github.com/hashicorp/go-uuid v1.0.3 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/jchv/go-winloader v0.0.0-20210711035445-715c2860da7e // indirect
	github.com/jcmturner/aescts/v2 v2.0.0 // indirect
	github.com/jcmturner/dnsutils/v2 v2.0.0 // indirect
	github.com/jcmturner/goidentity/v6 v6.0.1 // indirect
	github.com/jcmturner/rpc/v2 v2.0.3 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	golang.org/x/crypto v0.58.0 // indirect
)
