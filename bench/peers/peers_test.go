package peers

import (
	"os/exec"
	"strings"
	"testing"
)

func TestPostfixReceivesFromSwaks(t *testing.T) {
	swaks := Find(t, "swaks", "swaks")
	p := StartPostfix(t, PostfixOptions{Domains: []string{"example.test"}})
	out, err := exec.Command(swaks, "--server", p.Addr, "--from", "a@sender.test", "--to", "b@example.test", "--h-Subject", "peer check").CombinedOutput()
	if err != nil {
		t.Fatalf("swaks: %v\n%s", err, out)
	}
	if m := p.WaitMessage(t, "Subject: peer check"); !strings.Contains(m, "Return-Path: <a@sender.test>") {
		t.Errorf("Postfix stored the message without its envelope sender:\n%s", m)
	}
}
