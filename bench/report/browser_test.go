package report_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hikyaku/bench/peers"
)

// browser is a headless Chromium, spoken to over two pipes (DevTools protocol:
// JSON, each message ended by a NUL). A command line alone will not do: it
// cannot make a window narrower than 500 pixels, nor print, nor choose dark.
type browser struct {
	t       *testing.T
	to      *os.File
	from    *bufio.Reader
	session string
	last    int
	loaded  bool
	faults  []string // what the console, the policy or an exception said
}

type answer struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	chromium := peers.Find(t, "chromium", "chromium")
	ours, theirs := pipe(t), pipe(t) // what we write, what they write
	profile := t.TempDir()
	cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
		"--disable-dev-shm-usage", "--hide-scrollbars", "--user-data-dir="+profile, "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{ours.r, theirs.w} // descriptors 3 and 4
	// Its helpers are in a group of their own, so that all of them end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	ours.r.Close()
	theirs.w.Close()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	if err := theirs.r.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, to: ours.w, from: bufio.NewReaderSize(theirs.r, 1<<20)}
	var target struct {
		TargetID string `json:"targetId"`
	}
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct {
		SessionID string `json:"sessionId"`
	}
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	b.session = session.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

type ends struct{ r, w *os.File }

func pipe(t *testing.T) ends {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return ends{r, w}
}

// call sends one command and waits for its answer, noting what happens
// meanwhile.
func (b *browser) call(method string, params map[string]any, result any) {
	b.t.Helper()
	b.last++
	m := map[string]any{"id": b.last, "method": method}
	if params != nil {
		m["params"] = params
	}
	if b.session != "" {
		m["sessionId"] = b.session
	}
	text, err := json.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		switch a := b.read(); {
		case a.ID != b.last:
		case a.Error != nil:
			b.t.Fatalf("%s: %s", method, a.Error.Message)
		case result != nil:
			if err := json.Unmarshal(a.Result, result); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
			return
		default:
			return
		}
	}
}

// read takes the next message, which may be an event.
func (b *browser) read() answer {
	b.t.Helper()
	var a answer
	text, err := b.from.ReadBytes(0)
	if err == nil {
		err = json.Unmarshal(text[:len(text)-1], &a)
	}
	if err != nil {
		b.t.Fatalf("read from chromium: %v", err)
	}
	if a.ID == 0 {
		b.note(a)
	}
	return a
}

// open navigates and waits until the page is loaded.
func (b *browser) open(url string) {
	b.t.Helper()
	b.loaded = false
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	for !b.loaded {
		b.read()
	}
}

func (b *browser) note(a answer) {
	switch a.Method {
	case "Page.loadEventFired":
		b.loaded = true
	case "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded":
		b.faults = append(b.faults, string(a.Params))
	case "Network.requestWillBeSent":
		if p := string(a.Params); !strings.Contains(p, `"url":"file://`) && !strings.Contains(p, `"url":"about:`) {
			b.faults = append(b.faults, "asks the network: "+p)
		}
	}
}

// evaluate runs an expression in the page; a promise is waited for.
func (b *browser) evaluate(expression string) string {
	b.t.Helper()
	var r struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		ExceptionDetails json.RawMessage `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	var text string
	if err := json.Unmarshal(r.Result.Value, &text); err != nil {
		b.t.Fatalf("%s: %s: %v", expression, r.Result.Value, err)
	}
	return text
}

// look is how a page is looked at.
type look struct {
	name  string
	width int
	dark  bool
	print bool
}

// check opens a page in a fresh tab state and returns what its own check found.
func (b *browser) check(file string, l look) map[string]string {
	b.t.Helper()
	b.faults = nil
	scheme, media := "light", "screen"
	if l.dark {
		scheme = "dark"
	}
	if l.print {
		media = "print"
	}
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": l.width, "height": 900, "deviceScaleFactor": 1, "mobile": l.width < 600}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"media": media, "features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	// Through another page: a mere change of the fragment would not load anew.
	b.open("about:blank")
	b.open("file://" + file + "#selfcheck")
	text := b.evaluate(`new Promise((done, fail) => {
		const end = Date.now() + 30000;
		const look = () => {
			const d = document.documentElement.dataset;
			if (d.checked === "yes") done(JSON.stringify(d));
			else if (Date.now() > end) fail(new Error("the page did not check itself: " + location.href));
			else setTimeout(look, 20);
		};
		look();
	})`)
	got := map[string]string{}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		b.t.Fatalf("%q: %v", text, err)
	}
	for _, f := range b.faults {
		b.t.Errorf("%s: %s", l.name, f)
	}
	if keepPages != "" {
		b.picture(filepath.Join(keepPages, strings.TrimSuffix(filepath.Base(file), ".html")+"-"+l.name+".png"))
	}
	return got
}

// picture keeps a screenshot of the whole page.
func (b *browser) picture(path string) {
	b.t.Helper()
	var shot struct {
		Data string `json:"data"`
	}
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(path, png, 0o644)
	}
	if err != nil {
		b.t.Fatal(fmt.Errorf("keep picture: %w", err))
	}
}
