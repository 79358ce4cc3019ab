package publish

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
)

// fetch makes one request.
func (s *Source) fetch(ctx context.Context, pastCaches bool) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, fmt.Errorf("publish: %w: %w", ErrUnavailable, err)
	}
	req.Header.Set("Accept", s.mediaType)
	req.Header.Set("Accept-Encoding", "identity") // what is small when it comes must not grow
	if pastCaches {
		req.Header.Set("Cache-Control", "no-cache")
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("publish: %w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		if resp.StatusCode >= 300 && resp.StatusCode < 400 {
			return nil, fmt.Errorf("publish: %w: status %d, and redirects are refused", ErrUnavailable, resp.StatusCode)
		}
		return nil, fmt.Errorf("publish: %w: status %d", ErrUnavailable, resp.StatusCode)
	}
	if mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || mediaType != s.mediaType {
		return nil, malformed("the Content-Type is not %s", s.mediaType)
	}
	if resp.Header.Get("Content-Encoding") != "" {
		return nil, malformed("a Content-Encoding that was not asked for")
	}
	document, err := io.ReadAll(io.LimitReader(resp.Body, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("publish: %w: %w", ErrUnavailable, err)
	}
	if len(document) > MaxSize {
		return nil, malformed("larger than %d bytes", MaxSize)
	}
	return document, nil
}
