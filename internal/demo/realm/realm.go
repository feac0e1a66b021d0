// Package realm is a corporate Kerberos realm in one process: a KDC on the
// loopback interface, a mint that writes ticket caches without asking it, and
// an acceptor that judges tokens the way a corporate proxy does. The demo and
// the tests of other rooms use it; real clients (kinit, GSS libraries) work
// against it.
//
// It promises honest answers (RFC 4120: encrypted-timestamp pre-authentication,
// service tickets, renewal, the usual errors) and survives hostile packets. It
// refuses to be more: no database, no password change, no cross-realm trust,
// one encryption type (aes256-cts-hmac-sha1-96), nothing but 127.0.0.1.
package realm

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/keytab"
)

// DefaultName is the realm's name where Config gives none. No resolver knows
// a name below .invalid (RFC 6761), so the demo never meets a real realm.
const DefaultName = "DEMO.INVALID"

const (
	etype     = etypeID.AES256_CTS_HMAC_SHA1_96
	kvno      = 1
	clockSkew = 5 * time.Minute // RFC 4120 section 1.6 calls it typical
)

// A User can sign in with a password.
type User struct {
	Name     string // without the realm
	Password string
	Expired  bool // the password has expired: sign-in ends with KDC_ERR_KEY_EXPIRED
	Revoked  bool // the account is locked: KDC_ERR_CLIENT_REVOKED

	Life      time.Duration // of a TGT; 0 means Config.Life
	RenewLife time.Duration // 0 means Config.RenewLife, negative: never renewable
}

// A Service has a key in the keytab.
type Service struct {
	Name string        // "HTTP/proxy.demo.invalid", without the realm
	Life time.Duration // of a service ticket from the KDC; 0: as long as the TGT
}

// DemoUsers are the users of a realm that was given none: alice (an ordinary
// user), shorty (one minute, renewable for ten), expired and locked.
func DemoUsers() []User {
	return []User{
		{Name: "alice", Password: "wonderland"},
		{Name: "shorty", Password: "blink", Life: time.Minute, RenewLife: 10 * time.Minute},
		{Name: "expired", Password: "yesterday", Expired: true},
		{Name: "locked", Password: "behind-bars", Revoked: true},
	}
}

// DemoServices are the services of a realm that was given none.
func DemoServices() []Service {
	return []Service{{Name: "HTTP/proxy.demo.invalid"}, {Name: "HTTP/localhost"}, {Name: "HTTP/127.0.0.1"}}
}

// Config says what a realm consists of. Only Dir is required.
type Config struct {
	Name      string           // upper case; "" means DefaultName
	Dir       string           // an existing folder for krb5.conf, the keytab and minted caches
	Clock     func() time.Time // the KDC's and the acceptors' clock; nil means time.Now
	Log       *slog.Logger     // nil discards
	Users     []User           // nil means DemoUsers
	Services  []Service        // nil means DemoServices
	Life      time.Duration    // longest TGT; 0 means 10 hours
	RenewLife time.Duration    // longest renewal; 0 means 7 days
}

// A Realm is running from Start until Close. All methods are safe for
// concurrent use.
type Realm struct {
	name     string
	dir      string
	clock    func() time.Time
	log      *slog.Logger
	users    map[string]User
	services map[string]Service
	userKeys *keytab.Keytab
	tgsKeys  *keytab.Keytab // of krbtgt/NAME
	svcKeys  *keytab.Keytab // what the keytab file holds
	port     int

	// mu guards what listens and whether it answers.
	mu     sync.Mutex
	kdc    *kdc          // nil while stopped
	gate   chan struct{} // closed while the KDC answers
	closed bool
}

// Start writes the realm's files below cfg.Dir and opens its KDC on a free
// loopback port, TCP and UDP alike. The caller closes the Realm; the files
// stay.
func Start(cfg Config) (*Realm, error) {
	r := &Realm{
		name:     cmp.Or(cfg.Name, DefaultName),
		clock:    cfg.Clock,
		log:      cfg.Log,
		users:    map[string]User{},
		services: map[string]Service{},
		userKeys: keytab.New(),
		tgsKeys:  keytab.New(),
		svcKeys:  keytab.New(),
		gate:     make(chan struct{}),
	}
	close(r.gate)
	if r.clock == nil {
		r.clock = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if r.dir, err = folder(cfg.Dir); err != nil {
		return nil, fmt.Errorf("realm: %w", err)
	}
	if cfg.Users == nil {
		cfg.Users = DemoUsers()
	}
	if cfg.Services == nil {
		cfg.Services = DemoServices()
	}
	if err := r.people(cfg); err != nil {
		return nil, fmt.Errorf("realm %s: %w", r.name, err)
	}
	if err := r.listen(0); err != nil {
		return nil, fmt.Errorf("realm %s: %w", r.name, err)
	}
	if err := r.writeFiles(); err != nil {
		return nil, errors.Join(fmt.Errorf("realm %s: %w", r.name, err), r.Close())
	}
	return r, nil
}

// folder returns dir as an absolute path that krb5.conf can carry.
func folder(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("Config.Dir is empty; name a folder for krb5.conf and the keytab")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(dir, "\r\n") || strings.Contains(dir, "%{") {
		return "", fmt.Errorf("folder %q holds characters that krb5.conf gives a meaning", dir)
	}
	switch st, err := os.Stat(dir); {
	case err != nil:
		return "", err
	case !st.IsDir():
		return "", fmt.Errorf("%s is not a folder", dir)
	}
	return dir, nil
}

// people checks users and services and makes their keys.
func (r *Realm) people(cfg Config) error {
	for _, c := range r.name {
		if !(c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-') {
			return errors.New("a realm name has upper-case letters, digits, dots and hyphens only")
		}
	}
	for _, u := range cfg.Users {
		if _, dup := r.users[u.Name]; dup || !plainName(u.Name) || u.Password == "" {
			return fmt.Errorf("user %q: a user needs a plain name of its own and a password", u.Name)
		}
		u.Life = cmp.Or(u.Life, cfg.Life, 10*time.Hour)
		u.RenewLife = cmp.Or(u.RenewLife, cfg.RenewLife, 7*24*time.Hour)
		r.users[u.Name] = u
		if err := addKey(r.userKeys, u.Name, r.name, u.Password); err != nil {
			return err
		}
	}
	for _, s := range cfg.Services {
		if _, dup := r.services[s.Name]; dup || !plainName(s.Name) || !strings.Contains(s.Name, "/") {
			return fmt.Errorf("service %q: a service is named once, as HTTP/host", s.Name)
		}
		r.services[s.Name] = s
		if err := addKey(r.svcKeys, s.Name, r.name, rand.Text()); err != nil {
			return err
		}
	}
	return addKey(r.tgsKeys, r.tgs(), r.name, rand.Text())
}

func plainName(s string) bool {
	return s != "" && !strings.ContainsAny(s, "@\\ \t\r\n\x00") && !strings.HasPrefix(s, "krbtgt/")
}

func addKey(kt *keytab.Keytab, principal, realm, password string) error {
	// The time stamp only ranks entries of one principal; each has one.
	return kt.AddEntry(principal, realm, password, time.Unix(1, 0), kvno, etype)
}

// Name is the realm's name.
func (r *Realm) Name() string { return r.name }

// Krb5Conf is the path of the krb5.conf that leads to this realm.
func (r *Realm) Krb5Conf() string { return filepath.Join(r.dir, "krb5.conf") }

// Keytab is the path of the keytab that holds the keys of all services.
func (r *Realm) Keytab() string { return filepath.Join(r.dir, "service.keytab") }

// CachePath is the file that krb5.conf names as the default cache. It exists
// only after a Mint or a kinit.
func (r *Realm) CachePath() string { return filepath.Join(r.dir, "krb5cc") }

// Addr is where the KDC listens, or would after Restart.
func (r *Realm) Addr() string { return fmt.Sprintf("127.0.0.1:%d", r.port) }

func (r *Realm) tgs() string { return "krbtgt/" + r.name }

// now is the realm's time at the resolution Kerberos carries.
func (r *Realm) now() time.Time { return r.clock().UTC().Truncate(time.Second) }

func (r *Realm) writeFiles() error {
	domain := strings.ToLower(r.name)
	conf := fmt.Sprintf(`[libdefaults]
    default_realm = %[1]s
    default_ccache_name = FILE:%[2]s
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    canonicalize = false
    udp_preference_limit = 1

[realms]
    %[1]s = {
        kdc = %[3]s
    }

[domain_realm]
    localhost = %[1]s
    .demo.invalid = %[1]s
    .%[4]s = %[1]s
    %[4]s = %[1]s
`, r.name, r.CachePath(), r.Addr(), domain)
	keys, err := r.svcKeys.Marshal()
	if err != nil {
		return err
	}
	return errors.Join(replaceFile(r.Krb5Conf(), []byte(conf)), replaceFile(r.Keytab(), keys))
}

// replaceFile puts data at path in one step: a reader sees the old content or
// the new one. Owner-only, as Heimdal insists on for caches.
func replaceFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Pause lets the KDC accept requests and leave them unanswered, as behind a
// broken VPN, until Resume.
func (r *Realm) Pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.gate:
		r.gate = make(chan struct{})
	default:
	}
}

// Resume undoes Pause; TCP requests that still wait are answered.
func (r *Realm) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.gate:
	default:
		close(r.gate)
	}
}

// answering returns a channel that is closed while the KDC is not paused.
func (r *Realm) answering() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gate
}

// Stop closes the KDC's port, so that connections to it are refused, and
// waits until its goroutines are gone. The realm can still mint and accept.
func (r *Realm) Stop() error {
	r.mu.Lock()
	k := r.kdc
	r.kdc = nil
	r.mu.Unlock()
	if k == nil {
		return nil
	}
	return k.close()
}

// Restart opens the KDC on its old port again after Stop.
func (r *Realm) Restart() error { return r.listen(r.port) }

// Close stops the KDC for good. A second Close does nothing.
func (r *Realm) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	return r.Stop()
}

// listen opens the KDC on port, or where port is 0 on one that is free for
// both TCP and UDP.
func (r *Realm) listen(port int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.kdc != nil {
		return errors.New("open KDC: it is running already or the realm is closed")
	}
	var err error
	for range 20 {
		var tcp *net.TCPListener
		if tcp, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); err != nil {
			break // port 0 always finds one, and a given port will not get better
		}
		bound := tcp.Addr().(*net.TCPAddr).Port
		var udp *net.UDPConn
		if udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: bound}); err == nil {
			r.port = bound
			r.kdc = newKDC(r, tcp, udp)
			return nil
		}
		err = errors.Join(err, tcp.Close())
	}
	return fmt.Errorf("open KDC: %w", err)
}

// waitAnswering blocks while the realm is paused. It reports false when ctx
// ended first.
func (r *Realm) waitAnswering(ctx context.Context) bool {
	select {
	case <-r.answering():
		return true
	case <-ctx.Done():
		return false
	}
}
