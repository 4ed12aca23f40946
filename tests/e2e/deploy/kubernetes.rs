//! The files under examples/kubernetes: kubernetes.py does with them what a cluster would.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::cluster::{built, cluster, said};
use super::examples;
use super::root::Root;
use crate::harness::{library, probe};
use crate::rules::kernels_idle;

/// Writes text to a file of this name.
fn file(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).expect("written");
    path
}

/// A Deployment that has none of what the component adds, and one that has some of each.
const DEPLOYMENTS: [&str; 2] = [
    "apiVersion: apps/v1
kind: Deployment
metadata: {name: legacy}
spec:
  selector: {matchLabels: {app: legacy}}
  template:
    metadata: {labels: {app: legacy}}
    spec:
      containers:
        - {name: server, image: legacy, command: [/probe, '6', '4']}
",
    "apiVersion: apps/v1
kind: Deployment
metadata: {name: legacy}
spec:
  selector: {matchLabels: {app: legacy}}
  template:
    metadata: {labels: {app: legacy}}
    spec:
      initContainers:
        - {name: before, image: legacy, command: [/probe, '6', '4']}
      containers:
        - name: server
          image: legacy
          command: [/probe, '6', '4']
          env: [{name: OWN, value: 'yes'}]
          volumeMounts: [{name: own, mountPath: /own}]
        - {name: sidecar, image: legacy, command: [/probe, '6', '4']}
      volumes: [{name: own, emptyDir: {}}]
",
];

/// A Deployment with the component, as kustomize makes it.
fn with_component(directory: &TempDir, deployment: &str) -> String {
    let below = directory.path().join("kustomization");
    fs::create_dir_all(&below).expect("made");
    fs::write(below.join("deployment.yaml"), deployment).expect("written");
    // A component is named by a path that is relative.
    std::os::unix::fs::symlink(examples().join("kubernetes/component"), directory.path().join("component"))
        .expect("linked");
    let text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
        resources: [deployment.yaml]\ncomponents: [../component]\n";
    fs::write(below.join("kustomization.yaml"), text).expect("written");
    built(&below)
}

/// The images that the containers name, as root file systems.
fn images(directory: &TempDir) -> PathBuf {
    let images = directory.path().join("images");
    let legacy = Root::at(images.join("legacy"));
    legacy.put_program(&probe("options"), "probe");
    let init = Root::at(images.join("tcptune-init"));
    init.put(Path::new("/bin/busybox"), "bin/cp");
    let scratch = Root::at(images.join("tcptune"));
    for image in [&init, &scratch] {
        image.put(&library(), "usr/lib/libtcptune.so");
    }
    for image in [&legacy, &init] {
        fs::create_dir_all(image.path().join("proc")).expect("made");
    }
    images
}

/// The idle time of a new socket in each container of a pod that makes one.
fn idle(directory: &TempDir, pod: &str) -> Vec<u32> {
    let pod = file(directory, "pod.json", pod);
    let ran = said(&mut cluster([Path::new("run"), &pod, &images(directory), &directory.path().join("bundles")]));
    let times = ran.lines().filter_map(|line| line.strip_prefix("new.6.4="));
    times.map(|time| u32::from_str_radix(&time[..8], 16).expect("bytes").swap_bytes()).collect()
}

#[test]
fn files_for_kubernetes_fit_its_schemas() {
    let directory = TempDir::new().expect("temporary directory");
    let at = |name: &str| examples().join("kubernetes").join(name);
    let daemonset = file(&directory, "attach.yaml", &built(&at("attach")));
    let deployment = file(&directory, "deployment.yaml", &with_component(&directory, DEPLOYMENTS[1]));
    let fits = said(&mut cluster([Path::new("schemas"), &daemonset, &deployment, &at("policy/policy.yaml")]));
    for kind in [
        "apps/v1 DaemonSet",
        "apps/v1 Deployment",
        "v1 ServiceAccount",
        "v1 ConfigMap tcptune-attach",
        "rbac.authorization.k8s.io/v1 ClusterRoleBinding",
        "admissionregistration.k8s.io/v1 MutatingAdmissionPolicy ",
        "admissionregistration.k8s.io/v1 MutatingAdmissionPolicyBinding ",
    ] {
        assert!(fits.contains(&format!("fits {kind}")), "{kind}: {fits}");
    }
    for (path, right, wrong) in [
        (&at("policy/policy.yaml"), "failurePolicy", "failPolicy"),
        (&at("policy/policy.yaml"), "patchType", "patch"),
        (&daemonset, "readOnlyRootFilesystem", "readOnlyRootFileSystem"),
    ] {
        let text = fs::read_to_string(path).expect("a file");
        let path = file(&directory, "wrong.yaml", &text.replace(right, wrong));
        assert!(!cluster([Path::new("schemas"), &path]).output().expect("it runs").status.success(), "{wrong}");
    }
}

#[test]
fn the_component_tunes_a_deployment() {
    let kernels = u32::try_from(kernels_idle()).expect("seconds");
    for (deployment, expected) in DEPLOYMENTS.iter().zip([&[120][..], &[kernels, 120, kernels]]) {
        let directory = TempDir::new().expect("temporary directory");
        let text = with_component(&directory, deployment);
        assert!(!text.contains("ConfigMap"), "{text}");
        for line in deployment.lines().filter(|line| line.contains("OWN") || line.contains("/own")) {
            assert!(line.contains("name") && text.contains("name: OWN") && text.contains("mountPath: /own"), "{text}");
        }
        let deployment = file(&directory, "deployment.yaml", &text);
        let pod = said(&mut cluster([Path::new("pod"), &deployment]));
        assert_eq!(idle(&directory, &pod), expected, "{pod}");
    }
}

#[test]
fn the_policy_tunes_a_pod_by_its_label() {
    let pod = |label: &str, variables: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: legacy{label}}}, spec: {{containers: [\
             {{name: server, image: legacy, command: [/probe, '6', '4']{variables}}},\
             {{name: sidecar, image: legacy, command: [/probe, '6', '4'], env: [{{name: OWN, value: 'yes'}}]}}]}}}}"
        )
    };
    let kernels = u32::try_from(kernels_idle()).expect("seconds");
    let labelled = ", labels: {tcptune: fast-fail}";
    for (pod, expected) in [
        (pod("", ""), [kernels, kernels]),
        (pod(", labels: {app: legacy}", ""), [kernels, kernels]),
        (pod(labelled, ""), [5, 5]),
        (pod(labelled, ", env: [{name: LD_PRELOAD, value: ''}]"), [kernels, kernels]),
    ] {
        let directory = TempDir::new().expect("temporary directory");
        let policy = examples().join("kubernetes/policy/policy.yaml");
        let path = file(&directory, "given.yaml", &pod);
        let admitted = said(&mut cluster([Path::new("admit"), &policy, &path]));
        assert!(admitted.contains(r#"{"name": "OWN", "value": "yes"}"#), "{admitted}");
        let path = file(&directory, "admitted.json", &admitted);
        assert!(said(&mut cluster([Path::new("schemas"), &path])).contains("fits v1 Pod"));
        assert_eq!(idle(&directory, &admitted), expected, "{admitted}");
    }
}
