package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/client"
)

func TestErrors(t *testing.T) {
	answers := map[string]func(http.ResponseWriter){
		"/problem": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(422)
			io.WriteString(w, `{"title":"Unprocessable Entity","detail":"1 problem","errors":[{"location":"a.b","message":"is wrong"}]}`)
		},
		"/text":  func(w http.ResponseWriter) { http.Error(w, strings.Repeat("x", 1000), 502) },
		"/empty": func(w http.ResponseWriter) { w.WriteHeader(403) },
		"/liar": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(500)
			io.WriteString(w, "<html>")
		},
		"/odd": func(w http.ResponseWriter) { io.WriteString(w, "<html>") },
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer tok" {
			t.Errorf("%s: no token", r.URL)
		}
		answers[r.URL.Path](w)
	}))
	defer s.Close()
	c, err := client.New(s.URL+"/", client.Options{Token: "tok"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/problem": "1 problem\n  a.b: is wrong", "/text": "502 Bad Gateway: xxx", "/empty": "403 Forbidden", "/liar": "500 Internal Server Error: <html>", "/odd": "API answer is not what was expected",
	} {
		var out struct{}
		err := c.Do(context.Background(), "GET", path, nil, nil, &out)
		if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 400 {
			t.Errorf("%s: %v", path, err)
		}
		var e *client.Error
		if path != "/odd" && (!errors.As(err, &e) || e.Status/100 == 2) {
			t.Errorf("%s: %#v", path, err)
		}
	}
}

func TestNothingAnswers(t *testing.T) {
	s := httptest.NewServer(nil)
	url := s.URL
	s.Close()
	c, err := client.New(url, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Do(context.Background(), "GET", "/x", nil, nil, nil); err == nil || !strings.Contains(err.Error(), `is "hikyaku serve" running there?`) {
		t.Error(err)
	}
}

func TestDoHasADeadlineAndStreamHasNone(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-release
		io.WriteString(w, "done")
	}))
	defer s.Close()
	c, err := client.New(s.URL, client.Options{Timeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	body, err := c.Stream(context.Background(), "GET", "/", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Do(context.Background(), "GET", "/", nil, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Do: %v", err)
	}
	close(release)
	if b, err := io.ReadAll(body); err != nil || string(b) != "done" {
		t.Errorf("Stream: %q %v", b, err)
	}
	body.Close()
}

func TestNewRefuses(t *testing.T) {
	for _, base := range []string{"", "127.0.0.1:8080", "ftp://x", "http://", "http://[::1"} {
		if _, err := client.New(base, client.Options{}); err == nil {
			t.Errorf("%q was taken", base)
		}
	}
	if _, err := client.New("https://x", client.Options{CAFile: "/does/not/exist"}); err == nil {
		t.Error("a CA file that does not exist was taken")
	}
}
