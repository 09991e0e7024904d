// Package rollout_test runs the roll-out against a kubectl that is a script.
package rollout_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// kubectl is a cluster for each context, in files of $STATE: the image of its
// deployment, and whether the check passes. $BROKEN is a line of "context verb" of
// what fails; a context's check fails when it has the image in $BAD.
const kubectl = `#!/bin/bash
context=; args=()
while (($#)); do
	case $1 in
	--context) context=$2; shift 2;;
	--namespace) shift 2;;
	*) args+=("$1"); shift;;
	esac
done
set -- "${args[@]}"
[[ $1 == kustomize ]] && { printf 'image: registry.example/shirube:unset\n--expect-version=unset\n'; exit; }
printf '%s %s\n' "$context" "$*" >>"$STATE/log"
[[ " ${BROKEN-} " == *" $context/$1 "* ]] && exit 1
image=$(cat "$STATE/$context" 2>/dev/null)
[[ $1 == set && -n ${STUCK-} && $4 == "shirube=$STUCK" ]] && exit 1
case "$1 $2" in
"get deployment") echo "$image";;
"set image") echo "${4#shirube=}" >"$STATE/$context";;
"apply --filename") cat >"$STATE/applied-$context";;
"get job") [[ -n ${BAD-} && " $BAD " == *" $context "* ]] && echo Failed || echo Complete;;
"logs job/shirube-verify") echo "what $context says";;
esac
exit 0
`

// The images of the tests.
var (
	newImage = "registry.example/shirube@sha256:" + strings.Repeat("ab", 32)
	oldImage = "registry.example/shirube@sha256:" + strings.Repeat("cd", 32)
)

// rolled is what became of a roll-out.
type rolled struct {
	code   int
	out    string
	log    []string // what kubectl was told, but for questions
	images map[string]string
	dir    string
}

// roll runs a roll-out to stage, tokyo and osaka.
func roll(t *testing.T, env []string, args ...string) rolled {
	t.Helper()
	r := rolled{dir: t.TempDir(), images: map[string]string{}}
	for name, text := range map[string]string{"kubectl": kubectl, "stage": oldImage, "tokyo": oldImage, "osaka": oldImage} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "./rollout", args...)
	cmd.Env = append(os.Environ(), "PATH="+r.dir+":"+os.Getenv("PATH"), "STATE="+r.dir, "STAGE=stage", "SITES=tokyo osaka", "SOAK=0", "POLL=0", "REPORTS="+r.dir)
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r.code, r.out = cmd.ProcessState.ExitCode(), string(out)
	log, _ := os.ReadFile(filepath.Join(r.dir, "log")) // there is none if nothing was told
	for line := range strings.Lines(string(log)) {
		if words := strings.Fields(line); !slices.Contains([]string{"get", "logs", "wait", "delete"}, words[1]) {
			r.log = append(r.log, strings.TrimSpace(line))
		}
	}
	for _, site := range []string{"stage", "tokyo", "osaka"} {
		text, err := os.ReadFile(filepath.Join(r.dir, site))
		if err != nil {
			t.Fatal(err)
		}
		r.images[site] = strings.TrimSpace(string(text))
	}
	return r
}

// check holds the images that sites have to what they should.
func (r *rolled) check(t *testing.T, code int, stage, tokyo, osaka string) {
	t.Helper()
	if r.code != code || r.images["stage"] != stage || r.images["tokyo"] != tokyo || r.images["osaka"] != osaka {
		t.Errorf("exit code %d, want %d; images %v\n%s", r.code, code, r.images, r.out)
	}
}

func TestRollOutGoesSiteBySite(t *testing.T) {
	r := roll(t, nil, newImage, "v1.2.3")
	r.check(t, 0, newImage, newImage, newImage)
	var want []string
	for _, site := range []string{"stage", "tokyo", "osaka"} {
		want = append(want, site+" set image deployment/shirube shirube="+newImage, site+" rollout status deployment/shirube --timeout=15m", site+" apply --filename -")
	}
	if !slices.Equal(r.log, want) {
		t.Errorf("kubectl was told\n%s\nwant\n%s", strings.Join(r.log, "\n"), strings.Join(want, "\n"))
	}
	applied, err := os.ReadFile(filepath.Join(r.dir, "applied-osaka"))
	if want := "image: " + newImage + "\n--expect-version=v1.2.3\n"; err != nil || string(applied) != want {
		t.Errorf("%v: the check is\n%s\nwant\n%s", err, applied, want)
	}
	if said, err := os.ReadFile(filepath.Join(r.dir, "verify-tokyo.txt")); err != nil || string(said) != "what tokyo says\n" {
		t.Errorf("%v: the report is %q", err, said)
	}
}

func TestRollOutStopsAndRollsBack(t *testing.T) {
	for _, c := range []struct {
		what, env string
		code      int
		never     string // a site that is not touched
	}{
		{"the check of stage fails", "BAD=stage", 1, "tokyo"},
		{"the check of the first site fails", "BAD=tokyo", 1, "osaka"},
		{"the check of the last site fails", "BAD=osaka", 1, ""},
		{"the servers of a site do not come up", "BROKEN=osaka/rollout", 3, ""}, // nor when they are rolled back
		{"a site cannot be told", "BROKEN=tokyo/set", 3, "osaka"},
		{"the check cannot be begun", "BROKEN=tokyo/apply", 1, "osaka"},
		{"a site cannot be asked", "BROKEN=tokyo/get", 1, "osaka"},
		{"nothing can be rolled back", "BAD=osaka STUCK", 3, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			env := []string{c.env}
			if bad, stuck := strings.CutSuffix(c.env, " STUCK"); stuck {
				env = []string{bad, "STUCK=" + oldImage}
				r := roll(t, env, newImage, "v1.2.3")
				if r.code != c.code || strings.Count(r.out, "COULD NOT BE ROLLED BACK") != 3 {
					t.Errorf("exit code %d:\n%s", r.code, r.out)
				}
				return
			}
			r := roll(t, env, newImage, "v1.2.3")
			r.check(t, c.code, oldImage, oldImage, oldImage)
			for _, line := range r.log {
				if c.never != "" && strings.HasPrefix(line, c.never+" ") {
					t.Errorf("%s was told: %s", c.never, line)
				}
			}
		})
	}
}

func TestLastSiteIsRolledBackFirst(t *testing.T) {
	r := roll(t, []string{"BAD=osaka"}, newImage, "v1.2.3")
	var order []string
	for _, line := range r.log {
		if strings.HasSuffix(line, "shirube="+oldImage) {
			order = append(order, strings.Fields(line)[0])
		}
	}
	if !slices.Equal(order, []string{"osaka", "tokyo", "stage"}) {
		t.Errorf("rolled back in the order %q\n%s", order, r.out)
	}
}

func TestDryRunTellsNobody(t *testing.T) {
	r := roll(t, nil, "--dry-run", newImage, "v1.2.3")
	r.check(t, 0, oldImage, oldImage, oldImage)
	if len(r.log) > 0 {
		t.Errorf("kubectl was told %q", r.log)
	}
	for _, site := range []string{"stage", "tokyo", "osaka"} {
		for _, want := range []string{"set image deployment/shirube shirube=" + newImage, "rollout status", "apply", "wait --for=condition=Complete"} {
			if !strings.Contains(r.out, "+ kubectl --context "+site+" --namespace dns "+want) {
				t.Errorf("nothing of %s %s in\n%s", site, want, r.out)
			}
		}
	}
}

func TestRollOutRefusesWhatIsNoImageOrVersion(t *testing.T) {
	for _, args := range [][]string{
		{}, {newImage}, {"registry.example/shirube:latest", "v1"}, {newImage + "0", "v1"}, {newImage, "v1|e touch"}, {newImage, "v1", "more"},
	} {
		if r := roll(t, nil, args...); r.code != 2 || len(r.log) > 0 {
			t.Errorf("%q: exit code %d, kubectl was told %q", args, r.code, r.log)
		}
	}
	if r := roll(t, []string{"STAGE=", "SITES="}, newImage, "v1"); r.code != 2 {
		t.Errorf("without a site: exit code %d", r.code)
	}
}

func TestScriptIsCleanToShellcheck(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), "shellcheck", "rollout").CombinedOutput(); err != nil {
		t.Errorf("%v (tools/install-test-deps installs shellcheck)\n%s", err, out)
	}
}

// TestWorkflowRunsTheScript reads the pipeline: each job comes after those whose
// work it needs, is bounded in time, and runs scripts that are there.
func TestWorkflowRunsTheScript(t *testing.T) {
	text, err := os.ReadFile("github-actions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type job struct {
		Needs       any               `yaml:"needs"`
		RunsOn      []string          `yaml:"runs-on"`
		Environment string            `yaml:"environment"`
		Timeout     int               `yaml:"timeout-minutes"`
		Outputs     map[string]string `yaml:"outputs"`
		Steps       []map[string]any  `yaml:"steps"`
	}
	var w struct {
		Name        string            `yaml:"name"`
		On          map[string]any    `yaml:"on"`
		Concurrency map[string]any    `yaml:"concurrency"`
		Permissions map[string]string `yaml:"permissions"`
		Jobs        map[string]job    `yaml:"jobs"`
	}
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&w); err != nil {
		t.Fatal(err)
	}
	if w.Concurrency["cancel-in-progress"] != false {
		t.Error("a roll-out could be cancelled in the middle")
	}
	needs := map[string][]string{"image": nil, "stage": {"image"}, "prod": {"image", "stage"}}
	for name, want := range needs {
		j, ok := w.Jobs[name]
		var got []string
		switch n := j.Needs.(type) {
		case string:
			got = []string{n}
		case []any:
			for _, x := range n {
				got = append(got, x.(string))
			}
		}
		if !ok || !slices.Equal(got, want) || j.Timeout == 0 || !slices.Contains(j.RunsOn, "self-hosted") {
			t.Errorf("job %s: there %v, needs %q, %d minutes, on %q", name, ok, got, j.Timeout, j.RunsOn)
		}
		runs := ""
		for _, s := range j.Steps {
			if run, ok := s["run"].(string); ok {
				runs += run + "\n"
			}
		}
		script := "deploy/rollout/rollout \"$IMAGE\" \"$VERSION\""
		if name == "image" {
			script = "make image"
		}
		if !strings.Contains(runs, script) {
			t.Errorf("job %s does not run %s", name, script)
		}
	}
	if len(w.Jobs) != len(needs) {
		t.Errorf("%d jobs, want %d", len(w.Jobs), len(needs))
	}
}

// linted asks actionlint about a workflow: its keys, its expressions with what they
// refer to, the inputs of actions, and by shellcheck its scripts.
func linted(t *testing.T, text string) (report string, ok bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=../../tools/go.mod", "actionlint", "-config-file", "actionlint.yaml", "-shellcheck", "shellcheck", "-no-color", "-")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || !strings.Contains(string(out), "<stdin>:")) {
		t.Fatalf("actionlint: %v\n%s", err, out)
	}
	return string(out), err == nil
}

func TestWorkflowIsOneOfGitHub(t *testing.T) {
	text, err := os.ReadFile("github-actions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if report, ok := linted(t, string(text)); !ok {
		t.Error(report)
	}
	for mistake, in := range map[string][2]string{
		"a key that there is not":          {"timeout-minutes: 30", "timeout-minuets: 30"},
		"an output that there is not":      {"steps.push.outputs.image", "steps.posh.outputs.image"},
		"an input that there is not":       {"inputs.version", "inputs.versoin"},
		"a job that there is not":          {"needs: image", "needs: imgae"},
		"an argument that is split":        {`"docker://$REGISTRY/shirube:$VERSION"`, "docker://$REGISTRY/shirube:$VERSION"},
		"an input that the action has not": {"fetch-depth: 0", "fetch-deep: 0"},
	} {
		broken := strings.Replace(string(text), in[0], in[1], 1)
		if report, ok := linted(t, broken); ok || broken == string(text) {
			t.Errorf("%s goes unnoticed: %s", mistake, report)
		}
	}
}
