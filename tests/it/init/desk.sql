-- Software for many tenants: uuids, keys of two columns, columns that name rows of several tables, roles instead of names; some orphans.
-- service accounts
CREATE TABLE tenants (id uuid PRIMARY KEY, name text NOT NULL, plan text NOT NULL);
CREATE TABLE plans (name text PRIMARY KEY, seats int NOT NULL);
CREATE TABLE users (tenant_id uuid NOT NULL, id int NOT NULL, email text NOT NULL UNIQUE, invited_by int, PRIMARY KEY (tenant_id, id));
CREATE TABLE teams (tenant_id uuid NOT NULL, id int NOT NULL, lead_id int, PRIMARY KEY (tenant_id, id));
CREATE TABLE memberships (tenant_id uuid NOT NULL, team_id int NOT NULL, user_id int NOT NULL, PRIMARY KEY (tenant_id, team_id, user_id));
-- key: accounts.tenants(plan) -> accounts.plans(name)
-- key: accounts.users(tenant_id) -> accounts.tenants(id)
-- key: accounts.users(tenant_id, invited_by) -> accounts.users(tenant_id, id)
-- key: accounts.teams(tenant_id) -> accounts.tenants(id)
-- key: accounts.teams(tenant_id, lead_id) -> accounts.users(tenant_id, id)
-- key: accounts.memberships(tenant_id) -> accounts.tenants(id)
-- key: accounts.memberships(tenant_id, team_id) -> accounts.teams(tenant_id, id)
-- key: accounts.memberships(tenant_id, user_id) -> accounts.users(tenant_id, id)
INSERT INTO plans VALUES ('free', 3), ('team', 20), ('large', 500);
INSERT INTO tenants SELECT md5('tenant' || n)::uuid, 'tenant ' || n, (ARRAY['free', 'team', 'large'])[1 + n % 3] FROM generate_series(1, 12) AS n;
INSERT INTO users SELECT md5('tenant' || (1 + n / 30))::uuid, 1 + n % 30, 'user' || n || '@example.org', CASE WHEN n % 30 > 0 THEN 1 + (n * 7) % 30 END FROM generate_series(0, 359) AS n;
INSERT INTO teams SELECT md5('tenant' || (1 + n / 5))::uuid, 1 + n % 5, 1 + (n * 11) % 30 FROM generate_series(0, 59) AS n;
INSERT INTO memberships SELECT md5('tenant' || (1 + n / 60))::uuid, 1 + n % 5, 1 + (n % 60) / 5 + 12 * (n % 2) FROM generate_series(0, 719) AS n;
-- service work
CREATE TABLE projects (id uuid PRIMARY KEY, tenant_id uuid NOT NULL, owner_email text NOT NULL);
CREATE TABLE tasks (id uuid PRIMARY KEY, project_id uuid NOT NULL, blocked_task uuid, estimate int);
CREATE TABLE labels (id uuid PRIMARY KEY, tenant_id uuid NOT NULL, colour text NOT NULL);
CREATE TABLE task_labels (task_id uuid NOT NULL, label_id uuid NOT NULL, PRIMARY KEY (task_id, label_id));
CREATE TABLE comments (id uuid PRIMARY KEY, subject_type text NOT NULL, subject_id uuid NOT NULL, body text);
CREATE TABLE attachments (id uuid PRIMARY KEY, attachable_type text NOT NULL, attachable_id uuid NOT NULL, bytes bigint NOT NULL);
-- key: work.projects(tenant_id) -> accounts.tenants(id)
-- key: work.projects(owner_email) -> accounts.users(email)
-- key: work.tasks(project_id) -> work.projects(id)
-- key: work.tasks(blocked_task) -> work.tasks(id)
-- key: work.labels(tenant_id) -> accounts.tenants(id)
-- key: work.task_labels(task_id) -> work.tasks(id)
-- key: work.task_labels(label_id) -> work.labels(id)
-- key: work.comments(subject_id) where subject_type is Task -> work.tasks(id)
-- key: work.comments(subject_id) where subject_type is Project -> work.projects(id)
-- key: work.attachments(attachable_id) where attachable_type is Work::Comment -> work.comments(id)
-- key: work.attachments(attachable_id) where attachable_type is Work::Task -> work.tasks(id)
INSERT INTO projects SELECT md5('project' || n)::uuid, md5('tenant' || (1 + n % 12))::uuid, 'user' || (n * 3) % 360 || '@example.org' FROM generate_series(1, 80) AS n;
INSERT INTO tasks SELECT md5('task' || n)::uuid, md5('project' || (1 + n % 80))::uuid, CASE WHEN n % 4 = 0 THEN md5('task' || (1 + (n * 3) % 900))::uuid END, n % 13 FROM generate_series(1, 900) AS n;
INSERT INTO labels SELECT md5('label' || n)::uuid, md5('tenant' || (1 + n % 12))::uuid, 'colour ' || n FROM generate_series(1, 60) AS n;
INSERT INTO task_labels SELECT md5('task' || n)::uuid, md5('label' || (1 + n % 60))::uuid FROM generate_series(1, 900) AS n;
INSERT INTO comments SELECT md5('comment' || n)::uuid, CASE WHEN n % 3 = 0 THEN 'Project' ELSE 'Task' END,
    CASE WHEN n % 3 = 0 THEN md5('project' || (1 + n % 80))::uuid ELSE md5('task' || (1 + n % 900))::uuid END, 'text' FROM generate_series(1, 1500) AS n;
INSERT INTO attachments SELECT md5('attachment' || n)::uuid, CASE WHEN n % 2 = 0 THEN 'Work::Comment' ELSE 'Work::Task' END,
    CASE WHEN n % 2 = 0 THEN md5('comment' || (1 + n % 1500))::uuid ELSE md5('task' || (1 + n % 900))::uuid END, n FROM generate_series(1, 400) AS n;
-- service billing
CREATE TABLE invoices (number text PRIMARY KEY, tenant_id uuid NOT NULL, cents bigint NOT NULL);
CREATE TABLE invoice_lines (invoice_number text NOT NULL, line int NOT NULL, project_id uuid, cents bigint NOT NULL, PRIMARY KEY (invoice_number, line));
CREATE TABLE payments (id bigint PRIMARY KEY, invoice_number text NOT NULL, cents bigint NOT NULL);
CREATE TABLE coupons (code text PRIMARY KEY, percent int NOT NULL);
-- key: billing.invoices(tenant_id) -> accounts.tenants(id)
-- key: billing.invoice_lines(invoice_number) -> billing.invoices(number)
-- key: billing.invoice_lines(project_id) -> work.projects(id)
-- key: billing.payments(invoice_number) -> billing.invoices(number)
INSERT INTO invoices SELECT 'INV-' || n, md5('tenant' || (1 + n % 13))::uuid, n * 100 FROM generate_series(1, 200) AS n;
INSERT INTO invoice_lines SELECT 'INV-' || (1 + n % 200), 1 + n / 200, md5('project' || (1 + n % 90))::uuid, n FROM generate_series(0, 599) AS n;
INSERT INTO payments SELECT n, 'INV-' || (1 + (n * 3) % 200), n * 100 FROM generate_series(1, 150) AS n;
INSERT INTO coupons SELECT 'SAVE' || n, n FROM generate_series(1, 30) AS n;
