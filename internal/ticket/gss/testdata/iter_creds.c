/*
 * gss_iter_creds_f as GSS.framework has it, on top of Heimdal 7, which lacks
 * it: one credential for each cache named in KERBPASS_TEST_CACHES, handed over
 * by a thread of its own after the call has returned. With a number of
 * milliseconds in KERBPASS_TEST_STALL the thread waits that long first.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void each_f(void *user, void *mech, void *cred);

int krb5_init_context(void **ctx);
int krb5_cc_resolve(void *ctx, const char *name, void **cc);
uint32_t gss_krb5_import_cred(uint32_t *minor, void *cc, void *keytab_principal, void *keytab, void **cred);

struct job {
	void *user;
	each_f *each;
};

static void *hand_over(void *arg)
{
	struct job *j = arg;
	char *names = strdup(getenv("KERBPASS_TEST_CACHES")), *rest = names, *name;
	const char *stall = getenv("KERBPASS_TEST_STALL");
	void *ctx, *cc, *cred;
	uint32_t minor;

	if (stall)
		usleep(1000 * atoi(stall));
	krb5_init_context(&ctx);
	while ((name = strsep(&rest, " "))) {
		cred = NULL;
		if (krb5_cc_resolve(ctx, name, &cc) == 0 && gss_krb5_import_cred(&minor, cc, NULL, NULL, &cred) == 0 && cred)
			j->each(j->user, NULL, cred);
	}
	j->each(j->user, NULL, NULL);
	free(names);
	free(j);
	return NULL;
}

uint32_t gss_iter_creds_f(uint32_t *minor, uint32_t flags, void *mech, void *user, each_f *each)
{
	struct job *j = malloc(sizeof(*j));
	pthread_t t;

	*minor = 0;
	j->user = user;
	j->each = each;
	pthread_create(&t, NULL, hand_over, j);
	pthread_detach(t);
	return 0;
}
