package apps

// A CertHelp says how one program is told to trust a company's certificate
// authority. Kerbpass never does it by itself: who is trusted is a decision of
// the company and of the person.
type CertHelp struct {
	Name  string   `json:"name"`
	Title string   `json:"title"`
	Ways  []string `json:"ways"` // any one of them; CA.pem is the certificate, as PEM
	Note  string   `json:"note,omitempty"`
}

const (
	fullBundle = "The file replaces the usual authorities: it must hold those too, if anything is reached that the company does not re-sign."
	added      = "It is added to the usual authorities."
)

// CertHelps returns the help for every program, the system first.
func CertHelps() []CertHelp {
	return []CertHelp{
		{"system", "This system", []string{
			"Debian, Ubuntu: copy it to /usr/local/share/ca-certificates/company.crt, then sudo update-ca-certificates",
			"Fedora, RHEL: copy it to /etc/pki/ca-trust/source/anchors/, then sudo update-ca-trust",
			"macOS: sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain CA.pem",
			"Windows: certutil -user -addstore Root CA.pem",
		}, "Most programs follow the system; those that bring their own list need one of the ways below."},
		{"git", "Git", []string{"git config --global http.sslCAInfo /path/to/bundle.pem", "GIT_SSL_CAINFO=/path/to/bundle.pem", "Windows: git config --global http.sslBackend schannel"}, fullBundle},
		{"npm", "npm", []string{"npm config set cafile /path/to/CA.pem", "NODE_EXTRA_CA_CERTS=/path/to/CA.pem"}, "cafile replaces the usual authorities; NODE_EXTRA_CA_CERTS adds to them."},
		{"pnpm", "pnpm", []string{"pnpm config set cafile /path/to/CA.pem", "NODE_EXTRA_CA_CERTS=/path/to/CA.pem"}, "cafile replaces the usual authorities; NODE_EXTRA_CA_CERTS adds to them."},
		{"yarn", "Yarn 1", []string{"yarn config set cafile /path/to/CA.pem", "NODE_EXTRA_CA_CERTS=/path/to/CA.pem"}, "cafile replaces the usual authorities; NODE_EXTRA_CA_CERTS adds to them."},
		{"yarn-berry", "Yarn 2 and later", []string{"yarn config set --home httpsCaFilePath /path/to/CA.pem", "NODE_EXTRA_CA_CERTS=/path/to/CA.pem"}, ""},
		{"pip", "pip, and Python with requests or httpx", []string{"pip config set global.cert /path/to/bundle.pem", "PIP_CERT=/path/to/bundle.pem (pip)", "REQUESTS_CA_BUNDLE=/path/to/bundle.pem (requests, pip)", "SSL_CERT_FILE=/path/to/bundle.pem (urllib, httpx)"}, fullBundle},
		{"uv", "uv", []string{"SSL_CERT_FILE=/path/to/bundle.pem", "UV_NATIVE_TLS=true, to follow the system"}, fullBundle},
		{"conda", "conda, mamba", []string{"conda config --set ssl_verify /path/to/bundle.pem", "REQUESTS_CA_BUNDLE=/path/to/bundle.pem"}, fullBundle},
		{"cargo", "Cargo", []string{"cainfo = \"/path/to/bundle.pem\" under [http] in ~/.cargo/config.toml", "CARGO_HTTP_CAINFO=/path/to/bundle.pem"}, fullBundle},
		{"go", "Go", []string{"Linux: SSL_CERT_FILE=/path/to/bundle.pem"}, "On Windows and macOS, Go follows the system. " + fullBundle},
		{"jvm", "Java, Maven, Gradle", []string{
			"keytool -importcert -cacerts -alias company -file CA.pem (as the owner of the Java installation)",
			"-Djavax.net.ssl.trustStore=/path/to/truststore.p12 -Djavax.net.ssl.trustStorePassword=… in JAVA_TOOL_OPTIONS, MAVEN_OPTS or org.gradle.jvmargs",
			"Windows: -Djavax.net.ssl.trustStoreType=Windows-ROOT; macOS: -Djavax.net.ssl.trustStoreType=KeychainStore",
		}, "A trust store replaces the usual authorities; -cacerts adds to them."},
		{"docker-daemon", "Docker", []string{"Linux: copy it to /etc/docker/certs.d/REGISTRY:PORT/ca.crt", "for every registry: trust it on this system, then start the daemon again"}, "Containers and builds have authorities of their own, in their images."},
		{"apt", "apt", []string{"trust it on this system", "Acquire::https::CAInfo \"/path/to/bundle.pem\"; in /etc/apt/apt.conf.d/"}, ""},
		{"dnf", "dnf", []string{"trust it on this system", "sslcacert=/path/to/bundle.pem in /etc/dnf/dnf.conf"}, ""},
		{"curl", "curl", []string{"cacert = \"/path/to/bundle.pem\" in ~/.curlrc", "CURL_CA_BUNDLE=/path/to/bundle.pem", "SSL_CERT_FILE=/path/to/bundle.pem"}, "curl of Windows follows the system. " + fullBundle},
		{"wget", "Wget", []string{"ca_certificate = /path/to/bundle.pem in ~/.wgetrc"}, added},
		{"vscode", "Visual Studio Code", []string{"trust it on this system", "NODE_EXTRA_CA_CERTS=/path/to/CA.pem, for extensions"}, ""},
		{"claude", "Claude Code", []string{"NODE_EXTRA_CA_CERTS=/path/to/CA.pem, in the shell or under \"env\" in ~/.claude/settings.json"}, added},
		{"copilot", "Copilot CLI and other programs on Node", []string{"NODE_EXTRA_CA_CERTS=/path/to/CA.pem", "NODE_USE_SYSTEM_CA=1 from Node 22.19 and 24.6 on, to follow the system"}, added},
		{"node", "Node", []string{"NODE_EXTRA_CA_CERTS=/path/to/CA.pem", "NODE_USE_SYSTEM_CA=1 from Node 22.19 and 24.6 on, to follow the system"}, added},
		{"powershell", "PowerShell", []string{"trust it on this system"}, ""},
	}
}
