// Browser serves a page whose form is sealed in the browser, the API that it calls, and
// a reverse proxy between the two that logs all it sees. It needs nothing but loopback,
// and the npm packages of ../js:
//
//	npm ci --prefix examples/js
//	go run ./examples/browser
package main

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
)

func main() {
	log.SetFlags(0)
	addr := flag.String("addr", "127.0.0.1:8080", "the address of the page")
	js := flag.String("js", "examples/js", "the folder with sealhttp.js and node_modules")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *js); err != nil {
		log.Fatal(err)
	}
}

// run starts the three parts. The browser gets the page from the first and calls the
// second, which passes on to the third.
func run(ctx context.Context, addr, js string) error {
	listeners := make([]net.Listener, 3)
	for i, addr := range []string{addr, "127.0.0.1:0", "127.0.0.1:0"} {
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		defer listener.Close()
		listeners[i] = listener
	}
	pageURL, proxyURL, apiURL := urlOf(listeners[0]), urlOf(listeners[1]), urlOf(listeners[2])

	seen := newSights()
	service, err := newService(seen)
	if err != nil {
		return err
	}
	page, err := newPage(js, proxyURL, service, seen)
	if err != nil {
		return err
	}
	fmt.Printf("the page   %s\nthe proxy  %s\nthe API    %s\n", pageURL, proxyURL, apiURL)
	failed := make(chan error, len(listeners))
	for i, handler := range []http.Handler{page, newProxy(apiURL, seen), service.handler(pageURL)} {
		server := &http.Server{Handler: http.MaxBytesHandler(handler, 64<<10), ReadHeaderTimeout: 10 * time.Second}
		defer server.Close()
		go func() { failed <- server.Serve(listeners[i]) }()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return errors.Join(err, ctx.Err())
	}
}

func urlOf(l net.Listener) string { return "http://" + l.Addr().String() }
