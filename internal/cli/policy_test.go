package cli

// policyConfig is a file with trust policies, of which one is on trial.
const policyConfig = `issuer: http://127.0.0.1:8443
secrets: {master_key_file: master.key}
clusters:
  - name: hub
    issuer: https://kubernetes.default.svc
    jwks_file: hub.jwks.json
  - name: spoke-a
trusted_issuers:
  - name: github
    issuer: https://token.actions.githubusercontent.com
resources:
  - {id: "https://api.example.com", scopes: [orders:read, orders:write]}
policies:
  - name: deploys
    from: {cluster: hub, namespace: argocd, service_account: controller}
    when: pod.name.startsWith("controller-")
    to: {cluster: spoke-a}
  - name: publishes
    from: {trusted_issuer: github, subject: "repo:acme/app:prod", claims: {environment: production}}
    to: {resource: "https://api.example.com", scopes: [orders:write]}
  - name: tried
    from: {cluster: hub, namespace: shop, service_account: web}
    to: {cluster: spoke-a}
    mode: audit
  - name: people
    from: {user_group: sre}
    to: {cluster: spoke-a}
`
