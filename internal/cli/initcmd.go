package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func newInit(env *Environment) *cobra.Command {
	var issuer, output, dir, data string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented production configuration, and with --dir its secrets and the first operator",
		Long: `Write a commented production configuration.

With --dir, write all that a service needs to start but its certificate: the
configuration (signalbox.yaml), the master key (master.key), and the secret of a
client that may administer (ops.secret). It says what to do next, up to the
first signalbox client list. Nothing that is there already is overwritten.`,
		Example: `  signalbox init --dir ./signalbox --issuer http://127.0.0.1:8443      # try it on this machine
  signalbox init --dir /etc/signalbox --data /var/lib/signalbox --issuer https://sts.example.com
  signalbox init --issuer https://sts.example.com > signalbox.yaml     # only the configuration`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			start := config.Start{Issuer: issuer, DataDir: data}
			switch {
			case data != "": // from here, and not from the folder of the configuration
				var err error
				if start.DataDir, err = filepath.Abs(data); err != nil {
					return err
				}
			case dir != "":
				start.DataDir = "data"
			}
			if dir != "" {
				start.OperatorSecret = operatorSecret
			}
			text := config.Sample(start)
			if err := issuerProblem(text); err != nil {
				return &usageError{fmt.Errorf("--issuer: %w", err)}
			}
			switch {
			case dir != "" && output != "":
				return &usageError{errors.New("give --dir or --output, not both")}
			case dir != "":
				return initDir(env, dir, start, text)
			case output == "":
				_, err := env.Out.Write(text)
				return err
			}
			if err := writeNew(output, text); err != nil {
				return err
			}
			fmt.Fprintf(env.Err, "%s is written. Next: make the master key that it names, then signalbox config validate %s\n", output, config.ShellQuote(output))
			if os.Getuid() == 0 {
				fmt.Fprint(env.Err, "Give it to the user that the service runs as:\n"+handOver(output, start.DataDir))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&issuer, "issuer", "https://sts.example.com", "the issuer's URL")
	cmd.Flags().StringVarP(&output, "output", "f", "", "write only the configuration, to this file, which must not exist (default: standard output)")
	cmd.Flags().StringVar(&dir, "dir", "", "write configuration, master key and the operator's secret to this folder")
	cmd.Flags().StringVar(&data, "data", "", "folder of the database and the journal (default: /var/lib/signalbox; with --dir: data below it)")
	_ = cmd.MarkFlagDirname("dir")
	_ = cmd.MarkFlagDirname("data")
	return cmd
}

// issuerProblem is what config validate would say of the issuer. The files that
// the sample names need not be there yet.
func issuerProblem(text []byte) error {
	_, err := config.Parse("signalbox.yaml", text, nil)
	var found config.Errors
	errors.As(err, &found)
	for _, e := range found {
		if e.Key == "issuer" {
			return errors.New(e.Problem + ": " + e.Fix)
		}
	}
	return nil
}

const (
	configName     = "signalbox.yaml"
	masterKeyName  = "master.key" // as the sample names it
	operatorSecret = config.Operator + ".secret"
)

// initDir writes all files or none.
func initDir(env *Environment, dir string, start config.Start, text []byte) (err error) {
	files := []struct {
		name string
		data []byte
	}{
		{masterKeyName, []byte(keys.GenerateMasterKey().Encode() + "\n")},
		{operatorSecret, []byte(oauth.NewSecret(oauth.PrefixClientSecret).Reveal() + "\n")},
		{configName, text}, // last: where it is, the others are
	}
	for _, f := range files { // before anything is made
		if _, err := os.Lstat(filepath.Join(dir, f.name)); !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				err = fmt.Errorf("%s is there already and stays as it is: nothing was written", filepath.Join(dir, f.name))
			}
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var written []string
	defer func() {
		if err != nil {
			for _, file := range written {
				_ = os.Remove(file)
			}
		}
	}()
	for _, f := range files {
		file := filepath.Join(dir, f.name)
		if err := writeNew(file, f.data); err != nil {
			return err
		}
		written = append(written, file)
	}
	fmt.Fprint(env.Err, nextSteps(dir, start))
	return nil
}

// writeNew makes a file of mode 0600 that must not be there yet.
func writeNew(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already and stays as it is", file)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(file)
	}
	return err
}

// nextSteps lead from the files to an operator who is in.
func nextSteps(dir string, start config.Start) string {
	in := func(name string) string { return config.ShellQuote(filepath.Join(dir, name)) }
	var b strings.Builder
	fmt.Fprintf(&b, "%s holds %s, %s and %s. Keep a copy of the master key, away from the database.\nNext:\n", dir, configName, masterKeyName, operatorSecret)
	u, _ := url.Parse(start.Issuer) // checked
	if u.Scheme == "https" {
		fmt.Fprintf(&b, "  put the certificate for %s and its key into %s and %s (or see tls in %s)\n", u.Hostname(), in("tls.crt"), in("tls.key"), configName)
	}
	if os.Getuid() == 0 {
		b.WriteString(handOver(dir, start.DataDir))
	}
	fmt.Fprintf(&b, "  signalbox config validate %s\n  signalbox serve --config %s\nThen, in another terminal:\n", in(configName), in(configName))
	fmt.Fprintf(&b, "  signalbox context create %s --issuer %s --client-id %s --client-secret-file %s\n  signalbox client list\n",
		contextName(u.Hostname()), config.ShellQuote(start.Issuer), config.Operator, in(operatorSecret))
	return b.String()
}

// handOver is what root does for the user that the service runs as: what was
// written belongs to root, and the folder of the data may not be there yet.
func handOver(written, data string) string {
	text := fmt.Sprintf("  chown -R signalbox %s          # the user that the service runs as\n", config.ShellQuote(written))
	if filepath.IsAbs(data) {
		text += fmt.Sprintf("  install -d -m 0700 -o signalbox %s\n", config.ShellQuote(data))
	}
	return text
}

// contextName is the first part of a host's name, or local for an address.
func contextName(host string) string {
	name, _, more := strings.Cut(host, ".")
	if !more || !regexp.MustCompile(`\A[a-z][a-z0-9-]{0,62}\z`).MatchString(name) {
		return "local"
	}
	return name
}
