package tenant

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseVolume(t *testing.T) {
	for text, want := range map[string]Volume{
		"512M:/work":        {Mount: "/work", SizeMiB: 512},
		"20G:/srv/web":      {Mount: "/srv/web", SizeMiB: 20480},
		"20G:/data":         {Mount: "/data", SizeMiB: 20480},
		"./src:/src":        {Mount: "/src", Folder: "./src"},
		"./20G:/src":        {Mount: "/src", Folder: "./20G"},
		"/home/ann/a:b:/x":  {Mount: "/x", Folder: "/home/ann/a:b"},
		"none:/work":        {Mount: "/work"},
		"1M1:/var/lib/x.y-": {Mount: "/var/lib/x.y-", Folder: "1M1"},
	} {
		got, err := ParseVolume(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if again, err := ParseVolume(got.String()); err != nil || again != got {
			t.Errorf("%s is written as %s, which reads %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{
		"", ":", "20G", "20G:", ":/work", "20G:work", "20G:/", "20G:/a/../etc", "20G:/a/", "20G://a", "20G:/a b", "20G:/a=b", "20G:/a,b", "20G:/é",
		"20G:/.ssh", "20G:/a/-b", "20G:/" + strings.Repeat("a", 64), "20G:/a\nb",
		"20G:/etc", "20G:/run/secrets", "20G:/proc", "20G:/sys/x", "20G:/dev/shm", "20G:/nix/store", "20G:/usr/local", "20G:/bin", "20G:/var", "20G:/tmp", "20G:/data/x",
		"0M:/w", "15M:/w", "17000000M:/w", "99999999G:/w", "./src:/data", "none:/data",
	} {
		var input *InputError
		if got, err := ParseVolume(text); !errors.As(err, &input) || input.Hint == "" {
			t.Errorf("%q became %+v, %v", text, got, err)
		}
	}
}

// What a person may have written into spec.json by hand is as strict.
func TestVolumesAreValidated(t *testing.T) {
	ok := validSpec()
	ok.Volumes = Volumes{{Mount: "/work", SizeMiB: 16}, {Mount: "/work2", Folder: "/x"}, {Mount: "/var/lib/x", SizeMiB: 64}}
	if err := ok.Validate(); err != nil {
		t.Fatal(err)
	}
	many := make(Volumes, MaxVolumes+1)
	for i := range many {
		many[i] = Volume{Mount: fmt.Sprintf("/v%d", i), SizeMiB: 16}
	}
	for name, volumes := range map[string]Volumes{
		"too many": many, "neither": {{Mount: "/a"}}, "both": {{Mount: "/a", SizeMiB: 16, Folder: "/x"}},
		"twice": {{Mount: "/a", SizeMiB: 16}, {Mount: "/a", Folder: "/x"}}, "data": {{Mount: "/data", SizeMiB: 16}},
		"inside": {{Mount: "/a/b", SizeMiB: 16}, {Mount: "/a", SizeMiB: 16}}, "around": {{Mount: "/a", SizeMiB: 16}, {Mount: "/a/b", SizeMiB: 16}},
		"negative": {{Mount: "/a", SizeMiB: -1}}, "too large": {{Mount: "/a", SizeMiB: MaxDataMiB + 1}},
		"two lines": {{Mount: "/a", Folder: "/x\ny"}}, "a word more": {{Mount: "/a init=/bin/sh", SizeMiB: 16}}, "secrets": {{Mount: "/run/secrets", SizeMiB: 16}},
	} {
		s := validSpec()
		s.Volumes = volumes
		var input *InputError
		if err := s.Validate(); !errors.As(err, &input) || input.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChangeVolumes(t *testing.T) {
	s := validSpec()
	for _, step := range []struct{ change, want string }{
		{"1G:/a", "1G:/a"}, {"./x:/b", "1G:/a ./x:/b"}, {"2G:/a", "2G:/a ./x:/b"}, {"none:/c", "2G:/a ./x:/b"},
		{"3G:/data", "2G:/a ./x:/b"}, {"none:/a", "./x:/b"}, {"none:/b", "none"},
	} {
		before, was := s.Volumes, s.Volumes.String()
		v, err := ParseVolume(step.change)
		if err != nil {
			t.Fatal(err)
		}
		s.ChangeVolumes([]Volume{v})
		if s.Volumes.String() != step.want || before.String() != was {
			t.Errorf("%s: %s, want %s; before: %s", step.change, s.Volumes, step.want, before)
		}
	}
	if s.DataMiB != 3072 {
		t.Errorf("data: %d MiB", s.DataMiB)
	}
}

// Volumes survive spec.json, and a spec without any does not mention them.
func TestVolumesInJSON(t *testing.T) {
	s := validSpec()
	if data, err := json.Marshal(s); err != nil || strings.Contains(string(data), "volumes") {
		t.Errorf("%s, %v", data, err)
	}
	s.Volumes = Volumes{{Mount: "/a", SizeMiB: 16}, {Mount: "/b", Folder: "/x"}}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back Spec
	if err := json.Unmarshal(data, &back); err != nil || back.Volumes.String() != s.Volumes.String() {
		t.Errorf("%s: %v, %v", data, back.Volumes, err)
	}
}

// Two mounts never share an image.
func TestVolumeFileNames(t *testing.T) {
	names := map[string]string{"data.ext4": "/data"}
	for _, mount := range []string{"/a/b", "/a-b", "/a.b", "/a_b", "/ab", "/a/b/c", "/data.ext4", "/snapshots"} {
		name := Volume{Mount: mount}.FileName()
		if other, there := names[name]; there || strings.Contains(name, "/") {
			t.Errorf("%s and %s are both %s", mount, other, name)
		}
		names[name] = mount
	}
}
