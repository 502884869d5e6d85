package config

// agentTable is the table of the agent's file.
var agentTable = []field{
	{key: "issuer", at: in(func(a *Agent) any { return &a.Issuer }), example: "https://sts.example.com", change: atReload,
		doc: "The URL of the service that gives the tokens. http only for a loopback address."},
	{key: "ca_file", at: in(func(a *Agent) any { return &a.CAFile }), example: "/etc/signalbox/ca.crt", change: atReload,
		doc: "PEM file with the certificates that the issuer is verified with. Default: the system's. With it, a Secret of kind argocd-cluster tells the program in Argo CD's pods to look at /etc/signalbox/ca.crt."},
	{key: "listen", doc: "Where the agent answers. Without a key, nowhere.", fields: []field{
		{key: "health", at: in(func(a *Agent) any { return &a.Listen.Health }), example: `"127.0.0.1:9191"`,
			doc: "Address of /livez, /readyz and /metrics, host:port. It speaks plain HTTP, and shows names and times, but no token."},
		{key: "socket", at: in(func(a *Agent) any { return &a.Listen.Socket }), example: "/run/signalbox/agent.sock",
			doc: "Path of a Unix socket that gives tokens over HTTP to the users whom `tokens.socket` names. Linux only."},
	}},
	{key: "state_file", at: in(func(a *Agent) any { return &a.StateFile }), example: "/var/lib/signalbox-agent/state.json",
		doc: "File in which the agent remembers what it has written, without tokens. With it, what leaves the configuration while the agent does not run is removed when it starts. Without it, only what leaves while it runs."},
	{key: "kubernetes", example: "{namespaces: [shop, billing]}", doc: "The cluster that the agent is at home in: where it writes Secrets, and serves SignalboxTokens.", fields: []field{
		{key: "kubeconfig_file", at: in(func(a *Agent) any { return &a.Kubernetes.KubeconfigFile }), example: "/etc/signalbox/kubeconfig",
			doc: "Kubeconfig with which the agent reaches the cluster: its current context, with a tokenFile or a client certificate. Default: the service account of the pod that it runs in."},
		{key: "namespaces", at: in(func(a *Agent) any { return &a.Kubernetes.Namespaces }), example: "[shop, billing]",
			doc: "The namespaces whose SignalboxTokens are served. [\"*\"] means all. Default: none.", danger: "In all namespaces the agent needs the right to be every service account of the cluster."},
		{key: "lease", example: "{namespace: signalbox, name: signalbox-agent}", doc: "The Lease by which one of several replicas serves SignalboxTokens.", fields: []field{
			{key: "namespace", at: in(func(a *Agent) any { return &a.Kubernetes.LeaseNamespace }), example: "signalbox",
				doc: "Its namespace. Default: that of the pod that the agent runs in. Needed with kubeconfig_file."},
			{key: "name", at: in(func(a *Agent) any { return &a.Kubernetes.LeaseName }), def: "signalbox-agent",
				doc: "Its name. Agents that serve different namespaces need different names."},
		}},
	}},
	{key: "tokens", at: in(func(a *Agent) any { return grow(&a.Tokens) }), fields: agentTokenFields(), change: atReload,
		doc: "The tokens that are kept fresh. Two with the same from and to are one token with more outputs: the service is asked once."},
}

func agentTokenFields() []field {
	return []field{
		{key: "name", at: in(func(t *AgentToken) any { return &t.Name }), need: true, example: "spoke-a",
			doc: "What the token is called in the log, in metrics, and on the socket. 1 to 63 of a to z, 0 to 9 and -."},
		{key: "from", example: "{client_id: orders, client_secret_file: /etc/signalbox/orders.secret}", doc: "Whose the token is. Default: of the workload whose proof is in the file where a pod has it.", fields: []field{
			{key: "subject_token_file", at: in(func(t *AgentToken) any { return &t.From.SubjectTokenFile }), example: SubjectTokenFile,
				doc: "File with the proof of a workload, which its platform keeps fresh. It is read again for each exchange. Default: " + SubjectTokenFile + "."},
			{key: "client_id", at: in(func(t *AgentToken) any { return &t.From.ClientID }), example: "orders",
				doc: "In its place: a client that gets tokens of its own (client credentials)."},
			{key: "client_secret_file", at: in(func(t *AgentToken) any { return &t.From.ClientSecretFile }), example: "/etc/signalbox/orders.secret",
				doc: "File with the client's secret. It is read again for each token.", danger: "It is a static secret: a workload that can prove itself needs none."},
		}},
		{key: "to", example: "{cluster: spoke-a}", doc: "What the token is for: a cluster or a resource.", fields: []field{
			{key: "cluster", at: in(func(t *AgentToken) any { return &t.To.Cluster }), example: "spoke-a",
				doc: "The cluster, by its name at the service."},
			{key: "resource", at: in(func(t *AgentToken) any { return &t.To.Resource }), example: `"https://api.example.com"`,
				doc: "The resource, by its identifier."},
			{key: "scopes", at: in(func(t *AgentToken) any { return &t.To.Scopes }), example: "[orders:read]",
				doc: "The scopes that the token has. Default: all that the service gives."},
		}},
		{key: "file", example: `{path: /run/app/token, mode: "0640", owner: "1000:1000"}`, doc: "A file with the token and nothing else.", fields: append([]field{
			{key: "path", at: in(func(t *AgentToken) any { return &t.File.Path }), example: "/run/app/token",
				doc: "The file. It is replaced in one step: a reader finds the token before or the new one. Its folder must be there."},
		}, accessFields(func(t *AgentToken) *Access { return &t.File.Access })...)},
		{key: "kubeconfig", example: `{path: /run/app/kubeconfig, server: "https://10.0.1.1:6443", ca_file: spoke-a-ca.crt}`, doc: "A kubeconfig for the cluster. If the token has a file too, the kubeconfig names that (tokenFile), so that programs that run for long see each new token; otherwise it holds the token.", fields: append([]field{
			{key: "path", at: in(func(t *AgentToken) any { return &t.Kubeconfig.Path }), example: "/run/app/kubeconfig",
				doc: "The file, replaced in one step."},
			{key: "server", at: in(func(t *AgentToken) any { return &t.Kubeconfig.Server }), example: `"https://10.0.1.1:6443"`,
				doc: "URL of the cluster's API server."},
			{key: "ca_file", at: in(func(t *AgentToken) any { return &t.Kubeconfig.CAFile }), example: "spoke-a-ca.crt",
				doc: "PEM file with the certificates that the API server is verified with. They are copied into the kubeconfig. Default: those of whoever reads it."},
		}, accessFields(func(t *AgentToken) *Access { return &t.Kubeconfig.Access })...)},
		{key: "secret", example: `{namespace: argocd, name: repo-app, kind: argocd-repository, url: "https://git.example.com/app.git"}`, doc: "A Kubernetes Secret, written by server-side apply. One that is there already, or a value that somebody else has set, is not touched.", fields: []field{
			{key: "namespace", at: in(func(t *AgentToken) any { return &t.Secret.Namespace }), example: "argocd", doc: "Its namespace."},
			{key: "name", at: in(func(t *AgentToken) any { return &t.Secret.Name }), example: "repo-app", doc: "Its name."},
			{key: "kind", at: in(func(t *AgentToken) any { return &t.Secret.Kind }), example: "argocd-repository",
				doc: "Who reads it: argocd-cluster, argocd-repository, flux-kubeconfig, git, docker or opaque."},
			{key: "server", at: in(func(t *AgentToken) any { return &t.Secret.Server }), example: `"https://10.0.1.1:6443"`,
				doc: "URL of the cluster's API server, for argocd-cluster and flux-kubeconfig."},
			{key: "ca_file", at: in(func(t *AgentToken) any { return &t.Secret.CAFile }), example: "spoke-a-ca.crt",
				doc: "PEM file with the certificates that the server is verified with, for argocd-cluster, flux-kubeconfig and git. Default: those of whoever reads the Secret."},
			{key: "url", at: in(func(t *AgentToken) any { return &t.Secret.URL }), example: `"https://git.example.com/app.git"`,
				doc: "URL of the repository, for argocd-repository."},
			{key: "type", at: in(func(t *AgentToken) any { return &t.Secret.Type }), example: "git",
				doc: "What the repository is, for argocd-repository: git, helm or oci. Default: git."},
			{key: "project", at: in(func(t *AgentToken) any { return &t.Secret.Project }), example: "shop",
				doc: "The only project of Argo CD that may use it, for argocd-cluster and argocd-repository."},
			{key: "username", at: in(func(t *AgentToken) any { return &t.Secret.Username }), example: "robot",
				doc: "The user name, where the token is a password: for argocd-repository, git and docker. Default: Git gets a bearer token, and registries the user signalbox."},
			{key: "registry", at: in(func(t *AgentToken) any { return &t.Secret.Registry }), example: "registry.example.com",
				doc: "Host of the registry, for docker."},
			{key: "data", at: in(func(t *AgentToken) any { return &t.Secret.Data }), example: `{netrc: "machine api.example.com login x password {{.Token}}"}`,
				doc: "Templates by key, for opaque: text with {{.Token}}, {{.ExpiresAt}} and {{.Issuer}}, each perhaps with | base64, | json or | urlquery. Default: the key token with the token alone."},
		}},
		{key: "socket", example: "{uids: [1000]}", doc: "Give the token over the Unix socket of `listen.socket`.", fields: []field{
			{key: "uids", at: in(func(t *AgentToken) any { return &t.Socket.UIDs }), example: "[1000]",
				doc: "The users, by number, whose processes may have the token. Nobody else may, nor root unless it is listed."},
		}},
		{key: "on_change", at: in(func(t *AgentToken) any { return &t.OnChange }), example: `["/usr/bin/systemctl", "reload", "app"]`,
			doc: "A program with its arguments, run after the files have changed. No shell is involved. SIGNALBOX_TOKEN_NAME has the name, and SIGNALBOX_TOKEN_FILE and SIGNALBOX_KUBECONFIG_FILE the paths. It has 30 seconds, is never run twice at the same time for one token, and what it prints is discarded. One that fails is run again."},
	}
}

func accessFields(of func(*AgentToken) *Access) []field {
	return []field{
		{key: "mode", at: in(func(t *AgentToken) any { return &of(t).Mode }), example: `"0640"`,
			doc: "The file's mode, in quotes. At most 0644. Default: 0600.", danger: "Every user of the machine can read a file of mode 0644, and use the token."},
		{key: "owner", at: in(func(t *AgentToken) any { return &of(t).Owner }), example: `"1000:1000"`,
			doc: "The user, or the user and the group, that the file is given to, by number. The agent needs the right to do so (root, or CAP_CHOWN). Default: the agent's."},
		{key: "allow_writable_folder", at: in(func(t *AgentToken) any { return &of(t).AllowWritableFolder }), def: "false",
			doc: "true accepts a folder that every user can write to, such as an emptyDir of a pod.", danger: "Whoever can write to the folder can give the file's readers another token."},
	}
}
