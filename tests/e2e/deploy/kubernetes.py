"""What a cluster would do with the files under examples/kubernetes, on this machine.

    schemas FILE...          checks each document against the published schema of its kind
    pod FILE                 the pod of the first Deployment or DaemonSet of a file
    admit POLICY POD         the pod as the mutating admission policy leaves it
    run POD IMAGES BUNDLES   runs its containers one after the other, as the kubelet would: by runc, with IMAGES/NAME as root
                             file system of the image NAME; /proc/self/mounts says where version 2 of cgroups is

A FILE or POD is a path, or - for standard input.
"""

import copy
import functools
import json
import os
import subprocess
import sys

import celpy
import celpy.celtypes
import kubernetes_validate
import yaml

VERSION = "1.37"


def documents(path):
    with sys.stdin if path == "-" else open(path) as file:
        return [document for document in yaml.safe_load_all(file) if document]


# --- schemas ---


@functools.cache
def definitions():
    directory = os.path.join(os.path.dirname(kubernetes_validate.__file__), "kubernetes-json-schema")
    with open(os.path.join(directory, f"v{VERSION}.0-local-strict", "_definitions.json")) as file:
        return json.load(file)["$defs"]


POD = {"$ref": "_definitions.json#/$defs/io.k8s.api.core.v1.Pod"}


def resolved(node):
    """A node of a schema, with what it refers to in its place."""
    while "$ref" in node:
        rest = {key: value for key, value in node.items() if key != "$ref"}
        node = {**definitions()[node["$ref"].split("/")[-1]], **rest}
    return node


def check(paths):
    for path in paths:
        for document in documents(path):
            # What is kustomize's own is not of the API.
            if not document["apiVersion"].startswith("kustomize.config.k8s.io/"):
                kubernetes_validate.validate(document, VERSION, strict=True)
                print("fits", document["apiVersion"], document["kind"], document["metadata"]["name"])


# --- the policy ---


class Type(celpy.celtypes.MapType):
    """Object, Object.spec, ...: one for each object in the schema of a pod. What is made of it has the fields that it has."""

    def __init__(self, name, node, depth=0):
        node = resolved(node)
        node = resolved(node.get("items", node))
        self.name, self.fields = name, node.get("properties", {})
        below = {} if depth > 4 else {key: Type(f"{name}.{key}", field, depth + 1) for key, field in self.fields.items()}
        super().__init__({celpy.celtypes.StringType(key): value for key, value in below.items()})

    def __call__(self, given):
        unknown = {str(key) for key in given or {}} - set(self.fields)
        if unknown:
            raise ValueError(f"{self.name} has no {', '.join(unknown)}")
        return celpy.celtypes.MapType(given or {})


def evaluate(expression, pod):
    environment = celpy.Environment()
    names = {"Object": Type("Object", POD), "object": celpy.json_to_cel(pod)}
    return environment.program(environment.compile(expression)).evaluate(names)


def plain(value):
    return json.loads(json.dumps(value, cls=celpy.CELJSONEncoder))


def merged(old, new, node):
    """As server-side apply merges: objects by field, lists by the keys that the schema names."""
    node = resolved(node)
    if isinstance(new, dict) and isinstance(old, dict):
        result = dict(old)
        for key, value in new.items():
            below = node.get("properties", {}).get(key, {})
            result[key] = merged(old[key], value, below) if key in old else value
        return result
    keys = node.get("x-kubernetes-list-map-keys")
    if isinstance(new, list) and isinstance(old, list) and keys:
        defaults = {"protocol": "TCP"}
        identity = lambda item: [item.get(key, defaults.get(key)) for key in keys]
        result = list(old)
        for item in new:
            at = next((i for i, known in enumerate(result) if identity(known) == identity(item)), None)
            if at is None:
                result.append(item)
            else:
                result[at] = merged(result[at], item, node["items"])
        return result
    return new


def admit(policy, pod):
    policy = next(document for document in documents(policy) if document["kind"] == "MutatingAdmissionPolicy")
    spec = policy["spec"]
    labels = pod["metadata"].get("labels", {})
    for wanted in spec["matchConstraints"]["objectSelector"]["matchExpressions"]:
        assert wanted["operator"] == "Exists", wanted
        if wanted["key"] not in labels:
            return pod
    for condition in spec["matchConditions"]:
        if not evaluate(condition["expression"], pod):
            return pod
    for mutation in spec["mutations"]:
        assert mutation["patchType"] == "ApplyConfiguration"
        applied = plain(evaluate(mutation["applyConfiguration"]["expression"], pod))
        pod = merged(pod, applied, POD)
    return pod


# --- a kubelet ---


def cgroups():
    with open("/proc/self/mounts") as mounts:
        return next(line.split()[1] for line in mounts if line.split()[2] == "cgroup2")


def volume(source, directory, images, maps):
    """The directory of this machine that a volume is."""
    if "image" in source:
        return os.path.join(images, source["image"]["reference"].split(":")[0])
    if "hostPath" in source:
        path = source["hostPath"]["path"]
        return cgroups() if path == "/sys/fs/cgroup" else path
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, 0o777)
    if "configMap" in source:
        data = next(m["data"] for m in maps if m["metadata"]["name"] == source["configMap"]["name"])
        for name, text in data.items():
            with open(os.path.join(directory, name), "w") as file:
                file.write(text)
    else:
        assert source["emptyDir"] == {}, source
    return directory


def value(variable, pod):
    if "value" in variable:
        return variable["value"]
    path = variable["valueFrom"]["fieldRef"]["fieldPath"].split(".")
    node = pod
    for name in path:
        node = node[name]
    return node


def configuration(container, pod, volumes, root):
    context = {**pod["spec"].get("securityContext", {}), **container.get("securityContext", {})}
    added = ["CAP_" + name for name in context.get("capabilities", {}).get("add", [])]
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    for mount in container.get("volumeMounts", []):
        options = ["rbind", "ro" if mount.get("readOnly") else "rw"]
        mounts.append(
            {"destination": mount["mountPath"], "type": "bind", "source": volumes[mount["name"]], "options": options}
        )
    return {
        "ociVersion": "1.0.2",
        "root": {"path": root, "readonly": True},
        "process": {
            "terminal": False,
            "cwd": "/",
            "user": {"uid": context.get("runAsUser", 65534), "gid": 65534},
            "noNewPrivileges": not added,
            "args": container.get("command", ["/entrypoint"]) + container.get("args", []),
            "env": ["PATH=/bin:/usr/bin"] + [f"{v['name']}={value(v, pod)}" for v in container.get("env", [])],
            "capabilities": {kind: added for kind in ["bounding", "effective", "permitted"]},
        },
        "mounts": mounts,
        # That of the network is the caller's.
        "linux": {"namespaces": [{"type": kind} for kind in ["pid", "mount", "ipc", "cgroup"]]},
    }


def run(pod, images, bundles, maps):
    spec = pod["spec"]
    volumes = {}
    for source in spec.get("volumes", []):
        volumes[source["name"]] = volume(source, os.path.join(bundles, "volume-" + source["name"]), images, maps)
    for container in spec.get("initContainers", []) + spec["containers"]:
        bundle = os.path.join(bundles, container["name"])
        os.makedirs(bundle)
        root = os.path.join(images, container["image"].split(":")[0])
        for mount in container.get("volumeMounts", []):
            os.makedirs(root + mount["mountPath"], exist_ok=True)
        with open(os.path.join(bundle, "config.json"), "w") as file:
            json.dump(configuration(container, pod, volumes, root), file)
        name = f"tcptune-{os.getpid()}-{container['name']}"
        subprocess.run(["runc", "run", "--bundle", bundle, name], check=True)


def main(command, *args):
    if command == "schemas":
        check(args)
    elif command == "pod":
        workload = next(d for d in documents(args[0]) if d["kind"] in ("Deployment", "DaemonSet"))
        template = workload["spec"]["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(template)}
        pod["metadata"].setdefault("name", workload["metadata"]["name"])
        json.dump(pod, sys.stdout)
    elif command == "admit":
        json.dump(admit(args[0], documents(args[1])[0]), sys.stdout)
    elif command == "run":
        all = documents(args[0])
        run(all[0], args[1], args[2], [document for document in all if document["kind"] == "ConfigMap"])


main(*sys.argv[1:])
