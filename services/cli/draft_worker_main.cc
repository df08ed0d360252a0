// mirrorsd-draft-worker: one role as a program (services/cell/role_programs.h).

#include "services/cell/process_start.h"
#include "services/cell/role_programs.h"
#include "services/cli/commands.h"

int main(int argc, char** argv) {
  using namespace mirrorsd;
  cell::StartProcess();
  return cell::RoleMain(cli::SpecOf(config::kDraftWorker), argc, argv, cell::RunDraftWorker);
}
