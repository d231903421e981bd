package install

import "fmt"

// Pin is one release that mvm knows by its checksums.
type Pin struct {
	Version  string
	Archive  map[string]string            // sha256 of the release archive, by Go's name of the CPU
	Programs map[string]map[string]string // sha256 of the programs inside, where known
}

// Pins are the known releases, the newest first.
var Pins = []Pin{{
	Version: "1.17.0",
	Archive: map[string]string{
		"amd64": "06094a1108ae9e82aa4c23a775aa92758f53f1175d422270d9d6162cb9ade558",
		"arm64": "e351ebe4f7a16b5873bbd51005d2e6767103cff4d5ebc829df2d3f95a93e2256",
	},
	Programs: map[string]map[string]string{
		"amd64": {
			"firecracker": "99ad0f5cd0514a88aad0e9ae8cfdb3cc3b4ab9d190e1194602406c786b5de7a5",
			"jailer":      "65ef226e96f0ceda55ba643f445801ef2cc0ea667ef67cad8ac4f406c9c8434f",
		},
		"arm64": {
			"firecracker": "fe726e0b43c04363ac07e358be4dee982c3947c65ed3ae10c770fef5e1cd756c",
			"jailer":      "4d8d2dd4dfc1d47932b2bd261479181dd0c54f0a2f32714421a7e7f9f07ddec8",
		},
	},
}, {
	Version: "1.16.1",
	Archive: map[string]string{
		"amd64": "382a02a869e4d6d5cb14c40577f9545e8458021ea8b0b2d3fc10ec14d9c242e6",
		"arm64": "8d0e69f6d6f9a1724551f607f18504052c16c1828ee3d4d7b6e6c73380871e0e",
	},
	Programs: map[string]map[string]string{
		"amd64": {"firecracker": "2fd0171309af7e24cf8dafc8a6f921c1434c49b5f9349bb996b7ed0a4deb8aa7"},
	},
}}

// machines are Firecracker's names of the CPUs.
var machines = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// URL is where the release's archive is published.
func (p Pin) URL(arch string) string {
	const releases = "https://github.com/firecracker-microvm/firecracker/releases/download"
	return fmt.Sprintf("%s/v%s/firecracker-v%s-%s.tgz", releases, p.Version, p.Version, machines[arch])
}

func findVersion(version string) *Pin {
	for i := range Pins {
		if Pins[i].Version == version {
			return &Pins[i]
		}
	}
	return nil
}

func findArchive(arch, sum string) *Pin {
	for i := range Pins {
		if Pins[i].Archive[arch] == sum {
			return &Pins[i]
		}
	}
	return nil
}
