package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// newProxy stands for all that ends TLS in front of a service: a CDN, a WAF, a gateway.
// It passes everything on, and logs all it sees.
func newProxy(api string, seen *sights) http.Handler {
	target, err := url.Parse(api)
	if err != nil {
		panic(err) // from a listener
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // what the browser called is bound
			body, err := io.ReadAll(r.In.Body)
			if err != nil {
				panic(http.ErrAbortHandler) // the browser is gone
			}
			r.Out.Body = io.NopCloser(bytes.NewReader(body))
			seen.add(r.In.Header.Get("Idempotency-Key"), func(c *call) {
				c.Proxy.Request = newMessage(r.In.Method+" "+r.In.URL.RequestURI(), r.In.Header, body)
			})
		},
		ModifyResponse: func(resp *http.Response) error {
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			resp.Body = io.NopCloser(bytes.NewReader(body))
			seen.add(resp.Request.Header.Get("Idempotency-Key"), func(c *call) {
				c.Proxy.Response = newMessage(resp.Status, resp.Header, body)
			})
			return nil
		},
	}
}
