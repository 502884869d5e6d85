package kube

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// podOf is a pod of a StatefulSet or Deployment, as the API server has it.
type podOf struct {
	rig.Pod
	Spec struct {
		EnableServiceLinks bool
		Containers         []struct {
			Args            []string
			Env             []struct{ Name, Value string }
			SecurityContext struct{ ReadOnlyRootFilesystem bool }
			VolumeMounts    []struct{ Name, MountPath string }
		}
		SecurityContext struct{ RunAsUser, RunAsGroup, FSGroup int }
		Volumes         []podVolume
	}
}

type podVolume struct {
	Name                  string
	PersistentVolumeClaim *struct{}
	ConfigMap             *struct {
		Name        string
		DefaultMode os.FileMode
	}
	Secret *struct {
		SecretName  string
		DefaultMode os.FileMode
	}
	Projected *struct {
		DefaultMode os.FileMode
		Sources     []struct {
			ServiceAccountToken *struct{ Audience, Path string }
			ConfigMap           *struct{ Name string }
			DownwardAPI         *struct{ Items []struct{ Path string } }
		}
	}
}

// makePod makes what a controller would make of the template, as the strictest level of
// pod security admits it.
func makePod(t *testing.T, c *rig.Cluster, namespace, kind, name string) podOf {
	t.Helper()
	var owner struct {
		Spec struct {
			Template             struct{ Metadata, Spec manifest }
			VolumeClaimTemplates []struct{ Metadata struct{ Name string } }
		}
	}
	if err := c.Call(http.MethodGet, "/apis/apps/v1/namespaces/"+namespace+"/"+kind+"s/"+name, nil, &owner); err != nil {
		t.Fatal(err)
	}
	pod := manifest{"metadata": manifest{"name": name + "-0", "labels": owner.Spec.Template.Metadata["labels"]}, "spec": owner.Spec.Template.Spec}
	volumes, _ := owner.Spec.Template.Spec["volumes"].([]any)
	for _, claim := range owner.Spec.VolumeClaimTemplates {
		volumes = append(volumes, manifest{"name": claim.Metadata.Name, "persistentVolumeClaim": manifest{"claimName": claim.Metadata.Name + "-" + name + "-0"}})
	}
	owner.Spec.Template.Spec["volumes"] = volumes
	var made struct {
		podOf
		Metadata struct{ UID string }
	}
	if err := c.Call(http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods?fieldValidation=Strict", pod, &made); err != nil {
		t.Fatal(err)
	}
	made.Pod = rig.Pod{Namespace: namespace, ServiceAccount: fmt.Sprint(owner.Spec.Template.Spec["serviceAccountName"]), Name: name + "-0", UID: made.Metadata.UID}
	t.Cleanup(func() { c.DeletePod(t, made.Pod, 0) })
	return made.podOf
}

// container is a pod's container on this machine: its files as a kubelet lays them out, its
// command line, and its user, who can write to nothing but volumes.
type container struct {
	pod  podOf
	root string
	env  []string
}

// files by the name of a Secret or ConfigMap and the key.
type files map[string]map[string]string

// layOut needs root, or a user namespace. Addresses of the configuration are replaced by
// free ones, since a test has no network of its own.
func layOut(t *testing.T, c *rig.Cluster, pod podOf, given files, addresses *strings.Replacer) *container {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	b := &container{pod: pod, root: t.TempDir()}
	if err := os.MkdirAll(b.in("/usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(program, b.in("/usr/bin/signalbox")); err != nil {
		t.Fatal(err)
	}
	spec := pod.Spec.Containers[0]
	if !spec.SecurityContext.ReadOnlyRootFilesystem {
		t.Error("the program could be changed")
	}
	for _, mount := range spec.VolumeMounts {
		i := slices.IndexFunc(pod.Spec.Volumes, func(v podVolume) bool { return v.Name == mount.Name })
		if i < 0 {
			t.Fatalf("there is no volume %s", mount.Name)
		}
		b.mount(t, c, mount.MountPath, pod.Spec.Volumes[i], given, addresses)
	}
	host, port, _ := strings.Cut(strings.TrimPrefix(c.Server, "https://"), ":")
	b.env = []string{"KUBERNETES_SERVICE_HOST=" + host, "KUBERNETES_SERVICE_PORT=" + port}
	if pod.Spec.EnableServiceLinks { // for a Service that is called like ours
		b.env = append(b.env, "SIGNALBOX_SERVICE_HOST=10.0.0.7", "SIGNALBOX_PORT=tcp://10.0.0.7:443")
	}
	for _, e := range spec.Env {
		b.env = append(b.env, e.Name+"="+e.Value)
	}
	return b
}

func (b *container) in(path string) string { return filepath.Join(b.root, path) }

func (b *container) mount(t *testing.T, c *rig.Cluster, path string, v podVolume, given files, addresses *strings.Replacer) {
	t.Helper()
	content, mode := map[string]string{}, os.FileMode(0)
	switch {
	case v.PersistentVolumeClaim != nil:
		// As fsGroup leaves a new volume.
		if err := os.MkdirAll(b.in(path), 0o755); err != nil {
			t.Fatal(err)
		}
		b.own(t, b.in(path), 0o770|os.ModeSetgid)
		return
	case v.ConfigMap != nil:
		var stored struct{ Data map[string]string }
		if err := c.Call(http.MethodGet, "/api/v1/namespaces/"+b.pod.Namespace+"/configmaps/"+v.ConfigMap.Name, nil, &stored); err == nil {
			for key, text := range stored.Data {
				content[key] = addresses.Replace(text)
			}
		} else if content = given[v.ConfigMap.Name]; content == nil {
			t.Fatalf("there is no ConfigMap %s", v.ConfigMap.Name)
		}
		mode = v.ConfigMap.DefaultMode
	case v.Secret != nil:
		if content = given[v.Secret.SecretName]; content == nil {
			t.Fatalf("there is no Secret %s", v.Secret.SecretName)
		}
		mode = v.Secret.DefaultMode
	case v.Projected != nil:
		mode = v.Projected.DefaultMode
		for _, source := range v.Projected.Sources {
			switch {
			case source.ServiceAccountToken != nil:
				content[source.ServiceAccountToken.Path] = c.Token(t, b.pod.Pod, source.ServiceAccountToken.Audience, 0)
			case source.ConfigMap != nil && source.ConfigMap.Name == "kube-root-ca.crt":
				content["ca.crt"] = read(t, c.CA)
			case source.DownwardAPI != nil:
				content[source.DownwardAPI.Items[0].Path] = b.pod.Namespace
			}
		}
	default:
		t.Fatalf("the test knows no volume like %s", v.Name)
	}
	// The files are links to a folder that is replaced as a whole.
	version := filepath.Join(b.in(path), "..2026_01_01")
	if err := os.MkdirAll(version, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..2026_01_01", filepath.Join(b.in(path), "..data")); err != nil {
		t.Fatal(err)
	}
	for name, text := range content {
		if err := os.WriteFile(filepath.Join(version, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b.own(t, filepath.Join(version, name), mode)
		if err := os.Symlink("..data/"+name, filepath.Join(b.in(path), name)); err != nil {
			t.Fatal(err)
		}
	}
}

// own gives a file to the group of the pod.
func (b *container) own(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 0, b.pod.Spec.SecurityContext.FSGroup); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// command is the binary of the image with arguments, in the container.
func (b *container) command(args ...string) *exec.Cmd {
	cmd := exec.Command("/usr/bin/signalbox", args...)
	cmd.Dir, cmd.Env = "/", b.env
	as := b.pod.Spec.SecurityContext
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: b.root, Credential: &syscall.Credential{Uid: uint32(as.RunAsUser), Gid: uint32(as.RunAsGroup), Groups: []uint32{uint32(as.FSGroup)}}}
	if uid := os.Geteuid(); uid != 0 {
		// Root only in name, and so the owner of all that is here.
		cmd.SysProcAttr.Credential = nil
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return cmd
}

func (b *container) must(t *testing.T, args ...string) {
	t.Helper()
	if out, err := b.command(args...).CombinedOutput(); err != nil {
		t.Fatalf("signalbox %q: %v\n%s", args, err, out)
	}
}

// start runs what the pod runs.
func (b *container) start(t *testing.T) *rig.Program {
	t.Helper()
	return rig.Run(t, b.pod.Name, b.command(b.pod.Spec.Containers[0].Args...))
}

// swap changes a text in a file of a volume as a kubelet does: the folder behind the link
// is replaced.
func (b *container) swap(t *testing.T, path, old, new string) {
	t.Helper()
	text := read(t, b.in(path))
	changed := strings.Replace(text, old, new, 1)
	if changed == text {
		t.Fatalf("%s has no %q:\n%s", path, old, text)
	}
	volume := filepath.Dir(b.in(path))
	if err := os.Mkdir(filepath.Join(volume, "..2026_01_02"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(volume, "..2026_01_02", filepath.Base(path)), []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..2026_01_02", filepath.Join(volume, "..data_tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")); err != nil {
		t.Fatal(err)
	}
}

// getToken gets a token as the client night-job, and says for how many seconds it is good.
func (b *container) getToken(t *testing.T, public string) int {
	t.Helper()
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM([]byte(read(t, b.in("/secrets/signalbox-tls/tls.crt"))))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+public+"/token", strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth("night-job", strings.TrimSpace(read(t, b.in("/secrets/clients/night-job"))))
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var token struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&token); err != nil || token.AccessToken == "" {
		t.Fatalf("%s, %v", answer.Status, err)
	}
	return token.ExpiresIn
}

// secretsOfCharts are those that an operator makes.
func secretsOfCharts(t *testing.T, database string) files {
	t.Helper()
	certificate, key, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	return files{
		"signalbox-master-key": {"master.key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"},
		"signalbox-tls":        {"tls.crt": string(certificate), "tls.key": string(key)},
		"signalbox-operator":   {"operator.secret": "operator-of-the-chart-0123456789\n"},
		"signalbox-postgres":   {"url": database},
		"clients":              {"night-job": "night-job-of-the-chart-0123456789\n"},
		"authorities":          {"ca.crt": string(certificate)},
	}
}
