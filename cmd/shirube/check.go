package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"shirube/internal/config"
	"shirube/internal/daemon"
)

// errReported is in the chain of an error that has been printed already, in a
// form of its own.
var errReported = errors.New("reported already")

// newCheckCommand returns `shirube check`. If something is wrong with the file,
// its error has an [*config.Error] and [errReported] in its chain.
func newCheckCommand() *cobra.Command {
	var asJSON, schema, files bool
	cmd := &cobra.Command{
		Use:   "check [flags] FILE",
		Short: "Check a configuration file without starting a server",
		Long: `Check a configuration file without starting a server.

Everything that is wrong with the file is reported at once, one line for each
problem, and the exit status is 2. The file - is standard input.

The files that it names - certificates, secrets, trust anchors - are only looked at
with --files: they are where the server runs, and may be read by its user only. The
first of them that the server could not start with is reported.`,
		Example: `  # Before a reload
  shirube check --files /etc/shirube/shirube.yaml

  # In a pipeline
  render-config | shirube check --json -

  # For completion and help in an editor
  shirube check --schema > shirube.schema.json`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case schema && len(args) > 0:
				return &usageError{errors.New("check --schema takes no file")}
			case !schema && len(args) != 1:
				return &usageError{errors.New("check takes one file, or - for standard input; see 'shirube check --help'")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if schema {
				_, err := io.WriteString(cmd.OutOrStdout(), config.Schema())
				return err
			}
			name, cfg, found := readFile(cmd.InOrStdin(), args[0])
			if files && found == nil {
				found = checkFiles(name, cfg, cmd.ErrOrStderr())
			}
			if asJSON {
				return reportJSON(cmd.OutOrStdout(), name, found)
			}
			return reportText(cmd.OutOrStdout(), cmd.ErrOrStderr(), name, found)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON to standard output")
	cmd.Flags().BoolVar(&schema, "schema", false, "print the JSON schema of the file instead")
	cmd.Flags().BoolVar(&files, "files", false, "read the files that it names, too, as the server would")
	cmd.MarkFlagsMutuallyExclusive("json", "schema")
	cmd.MarkFlagsMutuallyExclusive("files", "schema")
	return cmd
}

// readFile checks the file at path, or stdin for `-`. It returns the name that
// the file has in reports, what it says, and what is wrong with it.
func readFile(stdin io.Reader, path string) (name string, cfg config.Config, found error) {
	if path == "-" {
		cfg, found = config.Read("stdin", stdin)
		return "stdin", cfg, found
	}
	cfg, found = config.Load(path)
	return path, cfg, found
}

// checkFiles returns what a server could not start with of the files that cfg, from
// the file with a name, names. It has stderr warned as a log would be.
func checkFiles(name string, cfg config.Config, stderr io.Writer) error {
	cfg, err := fillOwn(cfg)
	if err == nil {
		err = daemon.Check(cfg, newLogger(config.Log{Level: config.LevelWarn}, new(slog.LevelVar), stderr))
	}
	if err == nil {
		return nil
	}
	return &config.Error{File: name, Problems: []config.Problem{{Message: err.Error()}}, Err: err}
}

// reportText writes what was found in the file with a name: one line to stdout
// if that is nothing, else one line to stderr for each problem.
func reportText(stdout, stderr io.Writer, name string, found error) error {
	if found == nil {
		_, err := fmt.Fprintf(stdout, "%s: ok\n", name)
		return err
	}
	if _, err := fmt.Fprintln(stderr, found); err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", errReported, found)
}

// reportJSON writes what was found in the file with a name as JSON. The list
// of problems is there even if it is empty.
func reportJSON(w io.Writer, name string, found error) error {
	report, bad := errors.AsType[*config.Error](found)
	if !bad {
		report = &config.Error{File: name, Problems: []config.Problem{}}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(report); err != nil || !bad {
		return err
	}
	return fmt.Errorf("%w: %w", errReported, found)
}
