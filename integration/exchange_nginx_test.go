package integration_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nginx is a real one, in a folder of its own.
type nginx struct {
	t     *testing.T
	dir   string
	cmd   *exec.Cmd
	ended chan struct{}
	roots *x509.CertPool
	// The addresses of its servers, by name: HTTP/1.1 without TLS, and HTTP/2 with it.
	plain, tls map[string]string
}

// nginxServers is what nginx is to do: the directives of each server, by its name, and
// those of the http block that they share. FOLDER is nginx's own.
type nginxServers struct {
	shared  string
	servers map[string]string
}

// startNginx starts it. It ends with the test.
func startNginx(t *testing.T, c nginxServers) *nginx {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program = "/usr/sbin/nginx"; exec.Command(program, "-v").Run() != nil {
			t.Fatal("nginx is not installed: these tests need a real one (Debian: apt-get install nginx)")
		}
	}
	n := &nginx{t: t, dir: t.TempDir(), plain: make(map[string]string), tls: make(map[string]string)}
	n.certify()
	var servers bytes.Buffer
	for name, directives := range c.servers {
		n.plain[name] = fmt.Sprintf("127.0.0.1:%d", freePort(t))
		n.tls[name] = fmt.Sprintf("127.0.0.1:%d", freePort(t))
		fmt.Fprintf(&servers, "server {\n listen %s;\n listen %s ssl http2;\n server_name %s;\n %s\n}\n", n.plain[name], n.tls[name], serviceName, directives)
	}
	config := strings.ReplaceAll(fmt.Sprintf(nginxConfig, c.shared, servers.String()), "FOLDER", n.dir)
	check(t, os.WriteFile(filepath.Join(n.dir, "nginx.conf"), []byte(config), 0o600))
	n.cmd = exec.Command(program, "-p", n.dir, "-c", "nginx.conf", "-e", "error.log")
	var stderr lockedBuffer
	n.cmd.Stderr = &stderr
	check(t, n.cmd.Start())
	n.ended = make(chan struct{})
	go func() {
		defer close(n.ended)
		_ = n.cmd.Wait()
	}()
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			t.Logf("nginx's error log:\n%s", n.read("error.log"))
		}
	})
	for _, address := range n.tls {
		for {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				_ = conn.Close()
				break
			}
			select {
			case <-n.ended:
				t.Fatalf("nginx has ended:\n%s%s", &stderr, config)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	return n
}

// nginxConfig takes the upstreams, and the servers.
const nginxConfig = `
daemon off;
user root;
worker_processes 2;
pid nginx.pid;
error_log error.log info;
events { worker_connections 512; }
http {
 log_format all escape=json '{"request":"$request","status":"$status","body":"$request_body","exchange":"$http_sealed_exchange","answer":"$sent_http_sealed_exchange"}';
 access_log access.log all;
 client_body_temp_path body;
 proxy_temp_path proxy;
 fastcgi_temp_path fastcgi;
 uwsgi_temp_path uwsgi;
 scgi_temp_path scgi;
 ssl_certificate cert.pem;
 ssl_certificate_key key.pem;
 client_max_body_size 64m;
 client_body_buffer_size 64k;
 proxy_http_version 1.1;
 proxy_set_header Connection "";
 proxy_set_header Host $host;
 %s
 %s
}
`

// certify makes the certificate of its own that it serves with.
func (n *nginx) certify() {
	n.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(n.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{serviceName}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(n.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	check(n.t, err)
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		check(n.t, os.WriteFile(filepath.Join(n.dir, name), pem.EncodeToMemory(block), 0o600))
	}
	parsed, err := x509.ParseCertificate(cert)
	check(n.t, err)
	n.roots = x509.NewCertPool()
	n.roots.AddCert(parsed)
}

// stop ends it, with its workers and all that they have to write.
func (n *nginx) stop() {
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	<-n.ended
}

func (n *nginx) read(name string) []byte {
	text, err := os.ReadFile(filepath.Join(n.dir, name))
	if err != nil {
		n.t.Error(err)
	}
	return text
}
