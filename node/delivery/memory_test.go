package delivery

import (
	"testing"
	"time"
)

func TestMemoryIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	m := newMemory[int](3)
	for i := range 5 {
		m.remember(i, now.Add(time.Minute))
		if n, _ := m.stats(); n > 3 {
			t.Fatalf("%d keys remembered", n)
		}
	}
	m.remember(2, now.Add(time.Hour)) // again: now the last to go
	m.remember(5, now.Add(time.Minute))
	for key, want := range map[int]bool{0: false, 1: false, 2: true, 3: false, 4: true, 5: true} {
		if m.has(key, now) != want {
			t.Errorf("has(%d) is %v", key, !want)
		}
	}
	if _, full := m.stats(); full != 3 {
		t.Errorf("made room %d times, want 3", full)
	}
	later := now.Add(time.Minute)
	if m.has(4, later) || !m.has(2, later) {
		t.Error("a key lives until its time and no longer")
	}
	m.forget(2)
	m.forget(99)
	if m.has(2, now) {
		t.Error("a forgotten key is remembered")
	}
	if n, _ := m.stats(); n != 1 {
		t.Errorf("%d keys left, want 1", n)
	}
}
