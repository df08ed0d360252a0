// The four role programs (services/cell/role_programs.h): built once for each, with MIRRORSD_ROLE naming it.

#include "services/cell/process_start.h"
#include "services/cell/role_programs.h"
#include "services/cli/commands.h"

#define MIRRORSD_JOIN_NOW(a, b) a##b
#define MIRRORSD_JOIN(a, b) MIRRORSD_JOIN_NOW(a, b)

int main(int argc, char** argv) {
  using namespace mirrorsd;
  cell::StartProcess();
  return cell::RoleMain(cli::SpecOf(config::MIRRORSD_JOIN(k, MIRRORSD_ROLE)), argc, argv,
                        cell::MIRRORSD_JOIN(Run, MIRRORSD_ROLE));
}
