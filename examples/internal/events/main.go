package events

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sealhttp/sealhttp/tinkkeys"
)

// Main is the main function of a program that serves the API, as mount mounts it.
func Main(mount func(*Service) (http.Handler, error)) {
	addr := flag.String("addr", "127.0.0.1:8080", "the address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *addr, mount); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, addr string, mount func(*Service) (http.Handler, error)) error {
	service, err := NewService()
	if err != nil {
		return err
	}
	handler, err := mount(service)
	if err != nil {
		return err
	}
	keyset, err := tinkkeys.Public(service.Keys.PublicKeys()...)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("listening on http://%s\npublic key %s\n", listener.Addr(), keyset)

	const maxBody = 64 << 10 // sealed or not
	server := &http.Server{Handler: http.MaxBytesHandler(handler, maxBody), ReadHeaderTimeout: 10 * time.Second, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		stopped <- server.Shutdown(grace)
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
